/* A crowd of WebSocket clients, cheap enough not to be what is measured.
 *
 *   crowd --address 127.0.0.1:8080 --count 5000 --request '/ws?token={token}' --joined '"welcome"' ...
 *
 * Commands come a line each on standard input; each is answered by one line of JSON on standard output:
 *   open SECONDS      connect all that are not connected, AT_ONCE at a time; answer when all are in
 *   cut               reset every connection, without a goodbye
 *   expect N SECONDS M
 *                     answer when each of the first M clients has been sent message N, or time is up
 *   slow EVERY        every so manieth client stops to read (0: all read again)
 *   report            say what was seen since the last report; `latency` is [µs, how often]
 *   quit
 */

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "client.h"

enum { BUFFER = 256 * 1024, EVENTS = 512, MAX_ADDRESSES = 64, LOOK_US = 500 };

static struct crowd crowd;
static struct client *clients;
static struct sockaddr_in addresses[MAX_ADDRESSES];
static unsigned count, address_count, sources = 1, at_once = 64, first_source;
static uint64_t ack_every_us = 1000000;
static int loop;

static unsigned next_to_open, opening, failures;
static uint64_t open_began, open_until, expect_until;
static uint32_t expected;
static unsigned expecting; /* how many clients, from the first on */
static bool is_opening, is_expecting;
static char buffer[BUFFER];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void watch(struct client *client, uint32_t events, int operation)
{
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(loop, operation, client->fd, &event))
        die("epoll_ctl");
}

/* What a client says is small: a socket that does not take it at once is counted as a failure of the connection. */
static void send_bytes(struct client *client, const char *data, size_t size)
{
    if (send(client->fd, data, size, MSG_NOSIGNAL) != (ssize_t)size)
        shutdown(client->fd, SHUT_RDWR);
}

static void has_joined(struct client *client)
{
    (void)client;
    opening--;
}

static void lose(struct client *client)
{
    if (client->state == CLOSED)
        return;
    if (client->state != JOINED) {
        opening--;
        failures++;
    }
    close(client->fd);
    client_lose(client);
}

static void begin(struct client *client)
{
    int yes = 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (client->fd < 0)
        die("socket");
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (sources > 1) { /* one address has ports for 28,000 connections */
        struct sockaddr_in from = {.sin_family = AF_INET};
        from.sin_addr.s_addr = htonl(0x7f000101 + first_source + client->number % sources);
        setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        if (bind(client->fd, (struct sockaddr *)&from, sizeof from))
            die("bind");
    }
    client->state = CONNECTING;
    opening++;
    struct sockaddr_in *to = &addresses[client->number % address_count];
    if (connect(client->fd, (struct sockaddr *)to, sizeof *to) && errno != EINPROGRESS)
        die("connect");
    watch(client, EPOLLOUT, EPOLL_CTL_ADD);
}

static void open_some(void)
{
    while (opening < at_once && next_to_open < count) {
        struct client *client = &clients[next_to_open++];
        if (client->state == CLOSED)
            begin(client);
    }
}

static void connected(struct client *client)
{
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        lose(client);
        return;
    }
    watch(client, EPOLLIN, EPOLL_CTL_MOD);
    client_greet(&crowd, client);
}

static void readable(struct client *client)
{
    ssize_t size = recv(client->fd, buffer, BUFFER, 0);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    crowd.now_us = now_us();
    if (size <= 0 || !client_receive(&crowd, client, buffer, (size_t)size))
        lose(client);
}

static unsigned joined_now(void)
{
    unsigned joined = 0;
    for (unsigned i = 0; i < count; i++)
        joined += clients[i].state == JOINED;
    return joined;
}

static double own_cpu(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void report(void)
{
    struct tally *t = &crowd.tally;
    uint64_t behind = 0;
    for (unsigned i = 0; i < expecting; i++)
        if (expected >= clients[i].next)
            behind += expected + 1 - clients[i].next;
    printf("{\"connected\":%u,\"received\":%llu,\"lost\":%llu,\"repeated\":%llu,\"behind\":%llu,\"frames\":%llu,"
           "\"bytes\":%llu,\"acks\":%llu,\"joins\":%llu,\"closes\":%llu,\"last_close\":%u,\"cpu\":%.3f,\"latency\":[",
           joined_now(), (unsigned long long)t->received, (unsigned long long)t->lost, (unsigned long long)t->repeated,
           (unsigned long long)behind, (unsigned long long)t->frames, (unsigned long long)t->bytes,
           (unsigned long long)t->acks, (unsigned long long)t->joins, (unsigned long long)t->closes, t->last_close,
           own_cpu());
    const char *comma = "";
    for (unsigned bucket = 0; bucket < HISTOGRAM_BUCKETS; bucket++)
        if (t->latency.counts[bucket]) {
            printf("%s[%llu,%llu]", comma, (unsigned long long)histogram_value(bucket),
                   (unsigned long long)t->latency.counts[bucket]);
            comma = ",";
        }
    printf("]}\n");
    memset(t, 0, sizeof *t);
}

static void set_slow(unsigned every)
{
    for (unsigned i = 0; i < count; i++)
        if (clients[i].state == JOINED)
            watch(&clients[i], every && i % every == 0 ? 0 : EPOLLIN, EPOLL_CTL_MOD);
    printf("{}\n");
}

static void cut_all(void)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    for (unsigned i = 0; i < count; i++)
        if (clients[i].state != CLOSED) {
            setsockopt(clients[i].fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
            lose(&clients[i]);
        }
    printf("{}\n");
}

static void command(char *line)
{
    double seconds = 0;
    unsigned number = 0, first = 0;
    if (sscanf(line, "open %lf", &seconds) == 1) {
        is_opening = true;
        failures = next_to_open = 0;
        open_began = now_us();
        open_until = open_began + (uint64_t)(seconds * 1e6);
    } else if (sscanf(line, "expect %u %lf %u", &number, &seconds, &first) == 3 && first && first <= count) {
        is_expecting = true;
        expected = number;
        expecting = first;
        expect_until = now_us() + (uint64_t)(seconds * 1e6);
    } else if (sscanf(line, "slow %u", &number) == 1) {
        set_slow(number);
    } else if (!strcmp(line, "cut")) {
        cut_all();
    } else if (!strcmp(line, "report")) {
        report();
    } else if (!strcmp(line, "quit")) {
        exit(0);
    } else {
        fprintf(stderr, "crowd: not a command: %s\n", line);
        exit(2);
    }
}

static void commands(void)
{
    static char lines[4096];
    static size_t used;
    ssize_t size = read(0, lines + used, sizeof lines - 1 - used);
    if (size <= 0)
        exit(0);
    used += (size_t)size;
    char *end;
    while ((end = memchr(lines, '\n', used))) {
        *end = 0;
        command(lines);
        used -= (size_t)(end + 1 - lines);
        memmove(lines, end + 1, used);
    }
}

static bool all_have(uint32_t number)
{
    static unsigned at; /* the client that lacked something last: mostly it still does */
    for (unsigned i = 0; i < expecting; i++, at++)
        if (clients[at %= expecting].next <= number)
            return false;
    return true;
}

static void pursue(void)
{
    uint64_t now = now_us();
    if (is_opening) {
        open_some();
        if ((next_to_open == count && !opening) || now > open_until) {
            is_opening = false;
            printf("{\"joined\":%u,\"seconds\":%.4f,\"failed\":%u}\n", joined_now(), (double)(now - open_began) / 1e6,
                   failures);
        }
    }
    if (is_expecting && (all_have(expected) || now > expect_until)) {
        is_expecting = false;
        printf("{\"all\":%s}\n", all_have(expected) ? "true" : "false");
    }
}

/* Each client acknowledges once in `ack_every_us` (0: never), not all at the same time. */
static void acknowledge(void)
{
    static unsigned at;
    static uint64_t last;
    uint64_t now = now_us();
    if (!crowd.speech.ack || !ack_every_us || !last) {
        last = now;
        return;
    }
    uint64_t due = (now - last) * count / ack_every_us;
    if (!due)
        return;
    last = now;
    for (uint64_t i = 0; i < due && i < count; i++, at = (at + 1) % count)
        client_acknowledge(&crowd, &clients[at]);
}

/* Return how many descriptors have something.
 *
 * On one machine it is the sender who pays for waking a process that waits for its bytes, and how often it has to depends
 * on how fast each of them is. Clients of a server are elsewhere, so ours look every LOOK_US and are never woken; while
 * they come in, their own speed counts, and they wait.
 */
static int look(struct epoll_event *events)
{
    static const struct timespec pause = {.tv_nsec = LOOK_US * 1000};
    if (is_opening)
        return epoll_wait(loop, events, EVENTS, 1);
    int found = epoll_wait(loop, events, EVENTS, 0);
    if (!found)
        nanosleep(&pause, NULL);
    return found;
}

static void run(void)
{
    struct epoll_event events[EVENTS];
    for (;;) {
        int found = look(events);
        for (int i = 0; i < found; i++) {
            struct client *client = events[i].data.ptr;
            if (!client)
                commands();
            else if (client->state == CONNECTING)
                connected(client);
            else if (client->state != CLOSED)
                readable(client);
        }
        pursue();
        acknowledge();
    }
}

static void read_tokens(const char *path)
{
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    if (!file)
        die(path);
    crowd.tokens = calloc(count, sizeof *crowd.tokens);
    for (unsigned i = 0; i < count; i++) {
        ssize_t size = getline(&line, &room, file);
        if (size <= 0) {
            fprintf(stderr, "crowd: %s has fewer tokens than there are clients\n", path);
            exit(2);
        }
        line[size - (line[size - 1] == '\n')] = 0;
        crowd.tokens[i] = strdup(line);
    }
    free(line);
    fclose(file);
}

static void add_address(char *text)
{
    char *colon = strrchr(text, ':');
    struct sockaddr_in *address = &addresses[address_count++];
    address->sin_family = AF_INET;
    if (address_count == MAX_ADDRESSES || !colon || (*colon = 0, !inet_aton(text, &address->sin_addr))) {
        fprintf(stderr, "crowd: --address is IPv4:port, at most %d of them\n", MAX_ADDRESSES - 1);
        exit(2);
    }
    address->sin_port = htons((uint16_t)atoi(colon + 1));
}

static void options(int argc, char **argv)
{
    static const struct option known[] = {
        {"address", 1, 0, 'a'}, {"count", 1, 0, 'c'},  {"first-number", 1, 0, 'n'}, {"sources", 1, 0, 's'},
        {"at-once", 1, 0, 'o'}, {"tokens", 1, 0, 't'}, {"request", 1, 0, 'r'},      {"first", 1, 0, 'f'},
        {"again", 1, 0, 'g'},   {"joined", 1, 0, 'j'}, {"ping", 1, 0, 'p'},         {"pong", 1, 0, 'q'},
        {"ack", 1, 0, 'k'},     {"epoch", 1, 0, 'e'},  {"seq", 1, 0, 'm'},          {"ack-every", 1, 0, 'v'},
        {"first-source", 1, 0, 'u'}, {0, 0, 0, 0}};
    const char *tokens = NULL;
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (option) {
        case 'a': add_address(optarg); break;
        case 'c': count = (unsigned)atoi(optarg); break;
        case 'n': crowd.first_number = (unsigned)atoi(optarg); break;
        case 's': sources = (unsigned)atoi(optarg); break;
        case 'u': first_source = (unsigned)atoi(optarg); break;
        case 'o': at_once = (unsigned)atoi(optarg); break;
        case 't': tokens = optarg; break;
        case 'r': crowd.speech.request = optarg; break;
        case 'f': crowd.speech.first = optarg; break;
        case 'g': crowd.speech.again = optarg; break;
        case 'j': crowd.speech.joined = optarg; break;
        case 'p': crowd.speech.ping = optarg; break;
        case 'q': crowd.speech.pong = optarg; break;
        case 'k': crowd.speech.ack = optarg; break;
        case 'e': crowd.speech.epoch = optarg; break;
        case 'm': crowd.speech.seq = optarg; break;
        case 'v': ack_every_us = (uint64_t)(atof(optarg) * 1e6); break;
        default: exit(2);
        }
    }
    if (!count || !address_count || !crowd.speech.request) {
        fprintf(stderr, "crowd: --address, --count and --request are needed\n");
        exit(2);
    }
    if (tokens)
        read_tokens(tokens);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    options(argc, argv);
    crowd.send = send_bytes;
    crowd.joined = has_joined;
    clients = calloc(count, sizeof *clients);
    if (!clients)
        die("calloc");
    for (unsigned i = 0; i < count; i++)
        clients[i] = (struct client){.fd = -1, .number = crowd.first_number + i, .next = 1};
    loop = epoll_create1(0);
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL};
    if (loop < 0 || epoll_ctl(loop, EPOLL_CTL_ADD, 0, &input))
        die("epoll");
    run();
}
