/* One WebSocket client: what it sends, what it makes of what it is sent. Knows no sockets. */

#ifndef CLIENT_H
#define CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "histogram.h"

enum { CAPTURE = 40 };

/* How a server is spoken to. Texts may hold {n} (the client's number), {token}, {epoch} and {seq}. */
struct speech {
    const char *request; /* the path and query of the handshake */
    const char *first;   /* the first message; NULL: none */
    const char *again;   /* the first message of a client that comes back; NULL: as before */
    const char *joined;  /* part of the message after which the client is in; NULL: the handshake does */
    const char *ping;    /* a message that is a ping of the application's own, and */
    const char *pong;    /*   its answer */
    const char *ack;     /* what acknowledges everything up to {seq}; NULL: nothing does */
    const char *epoch;   /* the text before the epoch in a message, which ends at a quote */
    const char *seq;     /* the text before the number in a message that {seq} is to be the last of */
};

enum state { CLOSED, CONNECTING, UPGRADING, OPEN, JOINED };

struct client {
    int fd;
    uint32_t number;
    enum state state;
    bool was_in;
    uint32_t next; /* the number of the message that is expected */
    uint64_t seq, acked;
    char epoch[CAPTURE];
    char *rest; /* what was received of a frame that is not whole */
    uint32_t rest_size;
};

/* What all clients of a process saw since the last report. */
struct tally {
    struct histogram latency;
    uint64_t received, lost, repeated, late, bytes, frames, acks, joins, closes;
    uint32_t last_close;
};

struct crowd {
    struct speech speech;
    struct tally tally;
    const char **tokens;
    uint32_t first_number;
    uint64_t now_us;
    void (*send)(struct client *, const char *data, size_t size);
    void (*joined)(struct client *);
};

uint64_t now_us(void);

/* Send the request of the handshake. */
void client_greet(struct crowd *, struct client *);

/* Take bytes; false: the connection is over. */
bool client_receive(struct crowd *, struct client *, char *data, size_t size);

/* Acknowledge what was received since the last time. */
void client_acknowledge(struct crowd *, struct client *);

/* Forget what belongs to a connection that has ended; cursor and counts stay. */
void client_lose(struct client *);

#endif
