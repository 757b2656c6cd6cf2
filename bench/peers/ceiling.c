/* The least that any gateway does: one frame, one send(). Fed by Redis; no sessions, no tokens, no pings.
 *
 *   ceiling PORT REDIS_PORT
 *
 * A client asks for /?n=NUMBER. A message of the Redis channel `bench` is many items, each of
 * client number (4 bytes, little endian; all ones: every client), length (4 bytes), payload.
 */

#define _GNU_SOURCE

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CLIENTS = 1 << 17, FILES = 1 << 17, EVENTS = 512, MAX_FRAME = 4096 };
static const uint32_t EVERYBODY = 0xffffffff;
static const char ANSWER[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

static int by_number[CLIENTS]; /* descriptors, 0: none */
static uint32_t number_of[FILES];
static uint32_t highest;
static char *received;
static size_t held, room;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int listen_at(uint16_t port)
{
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096))
        die("listen");
    return fd;
}

static int subscribe(uint16_t port)
{
    static const char wish[] = "SUBSCRIBE bench\r\n";
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(fd, (struct sockaddr *)&at, sizeof at) || write(fd, wish, sizeof wish - 1) < 0)
        die("Redis");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void send_to(uint32_t number, const char *frame, size_t size)
{
    int fd = number < CLIENTS ? by_number[number] : 0;
    if (fd && send(fd, frame, size, MSG_NOSIGNAL) != (ssize_t)size && errno != EAGAIN)
        by_number[number] = 0;
}

static void take_item(uint32_t number, const char *payload, size_t size)
{
    char frame[MAX_FRAME];
    size_t head = 2;
    if (size > MAX_FRAME - 4)
        return;
    frame[0] = (char)0x81;
    if (size < 126) {
        frame[1] = (char)size;
    } else {
        frame[1] = 126;
        frame[2] = (char)(size >> 8);
        frame[3] = (char)size;
        head = 4;
    }
    memcpy(frame + head, payload, size);
    if (number != EVERYBODY)
        send_to(number, frame, head + size);
    else
        for (uint32_t each = 0; each <= highest; each++)
            send_to(each, frame, head + size);
}

static void take_items(const char *data, size_t size)
{
    uint32_t head[2];
    for (size_t at = 0; at + sizeof head <= size; at += sizeof head + head[1]) {
        memcpy(head, data + at, sizeof head);
        if (at + sizeof head + head[1] <= size)
            take_item(head[0], data + at + sizeof head, head[1]);
    }
}

/* Take one message of Redis: *3 $7 message $5 bench $SIZE payload; return its length, 0 while it is not whole. */
static size_t take_message(const char *data, size_t size)
{
    static const char head[] = "*3\r\n$7\r\nmessage\r\n$5\r\nbench\r\n$";
    const char *line = memmem(data, size, "\r\n", 2);
    if (size < sizeof head || !line)
        return 0;
    if (memcmp(data, head, sizeof head - 1)) /* the answer to SUBSCRIBE */
        return (size_t)(line + 2 - data);
    const char *digits = data + sizeof head - 1;
    const char *end = memmem(digits, size - (size_t)(digits - data), "\r\n", 2);
    if (!end)
        return 0;
    size_t length = strtoul(digits, NULL, 10), whole = (size_t)(end + 2 - data) + length + 2;
    if (size < whole)
        return 0;
    take_items(end + 2, length);
    return whole;
}

static void read_redis(int fd)
{
    if (room - held < 1 << 16 && !(received = realloc(received, room = room * 2 + (1 << 20))))
        die("realloc");
    ssize_t size = read(fd, received + held, room - held);
    if (size == 0 || (size < 0 && errno != EAGAIN))
        die("Redis");
    held += size > 0 ? (size_t)size : 0;
    size_t at = 0, took;
    while ((took = take_message(received + at, held - at)) > 0)
        at += took;
    memmove(received, received + at, held -= at);
}

static void forget(int fd)
{
    if (by_number[number_of[fd]] == fd)
        by_number[number_of[fd]] = 0;
    close(fd);
}

static void read_client(int fd)
{
    char data[MAX_FRAME];
    ssize_t size = read(fd, data, sizeof data - 1);
    if (size <= 0) {
        if (size == 0 || errno != EAGAIN)
            forget(fd);
        return;
    }
    data[size] = 0;
    char *wish = strstr(data, "?n=");
    if (memcmp(data, "GET ", 4) || !wish)
        return;
    uint32_t number = (uint32_t)strtoul(wish + 3, NULL, 10) % CLIENTS;
    by_number[number] = fd;
    number_of[fd] = number;
    highest = number > highest ? number : highest;
    if (write(fd, ANSWER, sizeof ANSWER - 1) < 0)
        forget(fd);
}

static void take_clients(int loop, int listener)
{
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (fd >= FILES)
            die("too many clients");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: ceiling PORT REDIS_PORT\n");
        return 2;
    }
    int loop = epoll_create1(0), listener = listen_at((uint16_t)atoi(argv[1])), redis = subscribe((uint16_t)atoi(argv[2]));
    struct epoll_event events[EVENTS], first = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(loop, EPOLL_CTL_ADD, listener, &first);
    first.data.fd = redis;
    epoll_ctl(loop, EPOLL_CTL_ADD, redis, &first);
    for (;;) {
        int found = epoll_wait(loop, events, EVENTS, -1);
        for (int i = 0; i < found; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                take_clients(loop, listener);
            else if (fd == redis)
                read_redis(redis);
            else
                read_client(fd);
        }
    }
}
