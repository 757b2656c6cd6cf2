// Real Chromium for tests that speak Python: a command per line of stdin as JSON, an answer per line of stdout.
// A profile is storage of its own, as another browser of the user; a page is a tab in one.
import { createInterface } from "node:readline";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { chromium } from "playwright-core";

const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];
const WITHIN = 30_000; // ms
const executablePath = process.argv[2];
const contexts = new Map();
const pages = new Map();

/** Start a browser in a new folder; `blocked`: no page of it may keep anything. */
async function profile({ name, folder, blocked }) {
  if (blocked) {
    await mkdir(join(folder, "Default"), { recursive: true });
    const settings = { profile: { default_content_setting_values: { cookies: 2 } } };
    await writeFile(join(folder, "Default", "Preferences"), JSON.stringify(settings));
  }
  contexts.set(name, await chromium.launchPersistentContext(folder, { executablePath, args: FLAGS, timeout: WITHIN }));
}

async function open({ name, profile: of, url }) {
  const page = await contexts.get(of).newPage();
  page.setDefaultTimeout(WITHIN);
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  pages.set(name, Object.assign(page, { problems }));
  await page.goto(url);
}

const commands = {
  profile,
  open,
  eval: ({ page, code }) => pages.get(page).evaluate(code),
  wait: ({ page, code, within = WITHIN }) => pages.get(page).waitForFunction(code, null, { timeout: within, polling: 50 }),
  reload: ({ page }) => pages.get(page).reload(),
  problems: ({ page }) => pages.get(page).problems.splice(0),
  close: ({ page }) => pages.get(page).close(),
  offline: ({ profile: of, offline }) => contexts.get(of).setOffline(offline),
};

async function answer(line) {
  const command = JSON.parse(line);
  try {
    const value = await commands[command.do](command);
    return { value: command.do === "eval" || command.do === "problems" ? (value ?? null) : null };
  } catch (error) {
    return { error: String(error) };
  }
}

for await (const line of createInterface({ input: process.stdin })) console.log(JSON.stringify(await answer(line)));
await Promise.all([...contexts.values()].map((context) => context.close().catch(() => {})));
process.exit(0);
