#define _GNU_SOURCE

#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10, MAX_MESSAGE = 4096 };

uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Write a text with its placeholders filled in; return its length. */
static size_t fill(const struct crowd *crowd, const struct client *client, const char *text, char *out, size_t room)
{
    size_t used = 0;
    while (*text && used + 1 < room) {
        int wrote = -1;
        size_t left = room - used;
        if (!strncmp(text, "{n}", 3)) {
            wrote = snprintf(out + used, left, "%u", client->number);
            text += 3;
        } else if (!strncmp(text, "{seq}", 5)) {
            wrote = snprintf(out + used, left, "%llu", (unsigned long long)client->seq);
            text += 5;
        } else if (!strncmp(text, "{epoch}", 7)) {
            wrote = snprintf(out + used, left, "%s", client->epoch);
            text += 7;
        } else if (!strncmp(text, "{token}", 7)) {
            const char *token = crowd->tokens ? crowd->tokens[client->number - crowd->first_number] : "";
            wrote = snprintf(out + used, left, "%s", token);
            text += 7;
        } else {
            out[used++] = *text++;
            continue;
        }
        used += (size_t)wrote < left ? (size_t)wrote : left - 1;
    }
    return used;
}

static void send_frame(struct crowd *crowd, struct client *client, int opcode, const char *payload, size_t size)
{
    char frame[MAX_MESSAGE + 8];
    size_t head = 2;
    frame[0] = (char)(0x80 | opcode);
    if (size < 126) {
        frame[1] = (char)(0x80 | size);
    } else {
        frame[1] = (char)(0x80 | 126);
        frame[2] = (char)(size >> 8);
        frame[3] = (char)size;
        head = 4;
    }
    memset(frame + head, 0, 4); /* a mask of zeros leaves the payload as it is */
    memcpy(frame + head + 4, payload, size);
    crowd->send(client, frame, head + 4 + size);
}

static void say(struct crowd *crowd, struct client *client, const char *text)
{
    char message[MAX_MESSAGE];
    send_frame(crowd, client, TEXT, message, fill(crowd, client, text, message, sizeof message));
}

void client_greet(struct crowd *crowd, struct client *client)
{
    char path[2048], request[3072];
    size_t size = fill(crowd, client, crowd->speech.request, path, sizeof path);
    int all = snprintf(request, sizeof request,
                       "GET %.*s HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                       "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                       (int)size, path);
    client->state = UPGRADING;
    crowd->send(client, request, (size_t)all);
}

static void enter(struct crowd *crowd, struct client *client)
{
    client->state = JOINED;
    client->was_in = true;
    crowd->tally.joins++;
    crowd->joined(client);
}

/* A mark is @due:number@: when the message was due (µs), and its number among those for this client, from 1. */
static void take_mark(struct crowd *crowd, struct client *client, uint64_t due, uint32_t number)
{
    struct tally *tally = &crowd->tally;
    if (number < client->next) {
        tally->repeated++;
        return;
    }
    tally->lost += number - client->next;
    client->next = number + 1;
    tally->received++;
    histogram_add(&tally->latency, crowd->now_us > due ? crowd->now_us - due : 0);
}

static void take_marks(struct crowd *crowd, struct client *client, const char *text, size_t size)
{
    const char *end = text + size, *at = text;
    while ((at = memchr(at, '@', (size_t)(end - at))) != NULL) {
        uint64_t due = 0;
        uint32_t number = 0;
        const char *p = at + 1;
        for (; p < end && *p >= '0' && *p <= '9'; p++)
            due = due * 10 + (uint64_t)(*p - '0');
        if (p < end && *p == ':') {
            for (p++; p < end && *p >= '0' && *p <= '9'; p++)
                number = number * 10 + (uint32_t)(*p - '0');
            if (p < end && *p == '@')
                take_mark(crowd, client, due, number);
        }
        at = p < end ? p + 1 : end;
    }
}

static void remember(const struct speech *speech, struct client *client, const char *text, size_t size)
{
    const char *end = text + size, *found;
    if (speech->epoch && !client->epoch[0] && (found = memmem(text, size, speech->epoch, strlen(speech->epoch)))) {
        size_t used = 0;
        for (found += strlen(speech->epoch); found < end && *found != '"' && used + 1 < CAPTURE; found++)
            client->epoch[used++] = *found;
        client->epoch[used] = 0;
    }
    if (!speech->seq)
        return;
    size_t width = strlen(speech->seq);
    for (const char *at = text; (at = memmem(at, (size_t)(end - at), speech->seq, width)) != NULL;) {
        uint64_t value = 0;
        for (at += width; at < end && *at >= '0' && *at <= '9'; at++)
            value = value * 10 + (uint64_t)(*at - '0');
        if (value > client->seq)
            client->seq = value;
    }
}

static void take_text(struct crowd *crowd, struct client *client, const char *text, size_t size)
{
    const struct speech *speech = &crowd->speech;
    crowd->tally.frames++;
    if (speech->ping && size == strlen(speech->ping) && !memcmp(text, speech->ping, size)) {
        say(crowd, client, speech->pong);
        return;
    }
    remember(speech, client, text, size);
    if (client->state == OPEN && memmem(text, size, speech->joined, strlen(speech->joined)))
        enter(crowd, client);
    take_marks(crowd, client, text, size);
}

static bool take_frame(struct crowd *crowd, struct client *client, int opcode, const char *payload, size_t size)
{
    switch (opcode) {
    case PING:
        send_frame(crowd, client, PONG, payload, size);
        return true;
    case CLOSE:
        crowd->tally.closes++;
        crowd->tally.last_close = size >= 2 ? (uint32_t)((uint8_t)payload[0] << 8 | (uint8_t)payload[1]) : 0;
        return false;
    case TEXT:
    case BINARY:
        take_text(crowd, client, payload, size);
    }
    return true;
}

/* Take the whole frames of a buffer; return how many bytes they were, or -1 if the connection is over. */
static ssize_t take_frames(struct crowd *crowd, struct client *client, const char *data, size_t size)
{
    size_t at = 0;
    while (size - at >= 2) {
        const uint8_t *head = (const uint8_t *)data + at;
        size_t start = 2, length = head[1] & 0x7f;
        if (length == 126) {
            if (size - at < 4)
                break;
            length = (size_t)head[2] << 8 | head[3];
            start = 4;
        } else if (length == 127) {
            if (size - at < 10)
                break;
            length = 0;
            for (int i = 2; i < 10; i++)
                length = length << 8 | head[i];
            start = 10;
        }
        if (size - at < start + length)
            break;
        if (!take_frame(crowd, client, head[0] & 0x0f, data + at + start, length))
            return -1;
        at += start + length;
    }
    return (ssize_t)at;
}

/* Take the answer to the handshake; return its length, 0 while it is not whole, -1 for a refusal. */
static ssize_t take_answer(struct crowd *crowd, struct client *client, const char *data, size_t size)
{
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end)
        return 0;
    if (size < 12 || memcmp(data + 9, "101", 3)) {
        fprintf(stderr, "refused: %.*s\n", (int)(end - data), data);
        return -1;
    }
    client->state = OPEN;
    const char *first = client->was_in && crowd->speech.again ? crowd->speech.again : crowd->speech.first;
    if (first)
        say(crowd, client, first);
    if (!crowd->speech.joined)
        enter(crowd, client);
    return end + 4 - data;
}

static void keep(struct client *client, const char *data, size_t size)
{
    char *rest = size ? malloc(size) : NULL;
    if (size && !rest)
        abort();
    if (size)
        memcpy(rest, data, size);
    free(client->rest);
    client->rest = rest;
    client->rest_size = (uint32_t)size;
}

bool client_receive(struct crowd *crowd, struct client *client, char *data, size_t size)
{
    char *all = data;
    crowd->tally.bytes += size;
    if (client->rest_size) {
        all = malloc(client->rest_size + size);
        if (!all)
            abort();
        memcpy(all, client->rest, client->rest_size);
        memcpy(all + client->rest_size, data, size);
        size += client->rest_size;
    }
    ssize_t used = client->state == UPGRADING ? take_answer(crowd, client, all, size) : 0;
    if (used >= 0 && client->state >= OPEN) {
        ssize_t more = take_frames(crowd, client, all + used, size - (size_t)used);
        used = more < 0 ? more : used + more;
    }
    if (used >= 0)
        keep(client, all + used, size - (size_t)used);
    if (all != data)
        free(all);
    return used >= 0;
}

void client_acknowledge(struct crowd *crowd, struct client *client)
{
    if (client->state != JOINED || client->acked >= client->seq)
        return;
    client->acked = client->seq;
    crowd->tally.acks++;
    say(crowd, client, crowd->speech.ack);
}

void client_lose(struct client *client)
{
    keep(client, NULL, 0);
    client->fd = -1;
    client->state = CLOSED;
}
