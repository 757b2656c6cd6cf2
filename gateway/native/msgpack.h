/* Reads msgpack in place, as far as deliveries need it.
 *
 * Every function returns 1 and goes on behind what it has read, or 0 where something else comes or the end: then `at`
 * is anywhere, and only a copy that was made before is of use.
 */

#ifndef TOCSIN_MSGPACK_H
#define TOCSIN_MSGPACK_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const unsigned char *at, *end;
} Cursor;

typedef struct {
    const char *at;
    size_t size;
} Text;

static inline int read_byte(Cursor *cursor, unsigned char *byte)
{
    if (cursor->at == cursor->end)
        return 0;
    *byte = *cursor->at++;
    return 1;
}

/* An unsigned number of 1, 2, 4 or 8 bytes, the highest first. */
static inline int read_number(Cursor *cursor, size_t bytes, uint64_t *number)
{
    if ((size_t)(cursor->end - cursor->at) < bytes)
        return 0;
    *number = 0;
    while (bytes--)
        *number = *number << 8 | *cursor->at++;
    return 1;
}

static inline int read_array(Cursor *cursor, uint64_t *count)
{
    unsigned char kind;
    if (!read_byte(cursor, &kind))
        return 0;
    if (kind >> 4 == 0x9) {
        *count = kind & 0xf;
        return 1;
    }
    return (kind == 0xdc && read_number(cursor, 2, count)) || (kind == 0xdd && read_number(cursor, 4, count));
}

static inline int read_text(Cursor *cursor, Text *text, uint64_t size)
{
    if ((uint64_t)(cursor->end - cursor->at) < size)
        return 0;
    text->at = (const char *)cursor->at;
    text->size = (size_t)size;
    cursor->at += size;
    return 1;
}

static inline int read_str(Cursor *cursor, Text *text)
{
    unsigned char kind;
    uint64_t size;
    if (!read_byte(cursor, &kind))
        return 0;
    if (kind >> 5 == 0x5)
        return read_text(cursor, text, kind & 0x1f);
    return kind >= 0xd9 && kind <= 0xdb && read_number(cursor, (size_t)1 << (kind - 0xd9), &size) &&
           read_text(cursor, text, size);
}

static inline int read_bin(Cursor *cursor, Text *text)
{
    unsigned char kind;
    uint64_t size;
    return read_byte(cursor, &kind) && kind >= 0xc4 && kind <= 0xc6 &&
           read_number(cursor, (size_t)1 << (kind - 0xc4), &size) && read_text(cursor, text, size);
}

/* An integer that is not negative, as all of ours are. */
static inline int read_whole(Cursor *cursor, long long *whole)
{
    unsigned char kind;
    uint64_t number;
    if (!read_byte(cursor, &kind))
        return 0;
    if (kind < 0x80)
        number = kind;
    else if (kind < 0xcc || kind > 0xcf || !read_number(cursor, (size_t)1 << (kind - 0xcc), &number))
        return 0;
    *whole = (long long)number;
    return number <= LLONG_MAX;
}

/* How many bytes follow a kind, not counting what is in an array or a map; `inside` is how many values that is. */
static inline int behind(Cursor *cursor, unsigned char kind, uint64_t *bytes, uint64_t *inside)
{
    *bytes = *inside = 0;
    if (kind < 0x80 || kind >= 0xe0 || kind == 0xc0 || kind == 0xc2 || kind == 0xc3)
        return 1; /* a small integer, nil, a truth value */
    if (kind < 0xa0) { /* a small map or array */
        *inside = (uint64_t)(kind & 0xf) * (kind < 0x90 ? 2 : 1);
        return 1;
    }
    if (kind < 0xc0) { /* a short text */
        *bytes = kind & 0x1f;
        return 1;
    }
    switch (kind) {
    case 0xc4: case 0xc5: case 0xc6: /* bytes */
        return read_number(cursor, (size_t)1 << (kind - 0xc4), bytes);
    case 0xc7: case 0xc8: case 0xc9: /* an extension, whose type is one byte more */
        return read_number(cursor, (size_t)1 << (kind - 0xc7), bytes) && ++*bytes;
    case 0xca: case 0xcb: /* a float */
        *bytes = (uint64_t)4 << (kind - 0xca);
        return 1;
    case 0xcc: case 0xcd: case 0xce: case 0xcf: /* an integer */
        *bytes = (uint64_t)1 << (kind - 0xcc);
        return 1;
    case 0xd0: case 0xd1: case 0xd2: case 0xd3: /* one that may be negative */
        *bytes = (uint64_t)1 << (kind - 0xd0);
        return 1;
    case 0xd4: case 0xd5: case 0xd6: case 0xd7: case 0xd8: /* an extension of a fixed size */
        *bytes = ((uint64_t)1 << (kind - 0xd4)) + 1;
        return 1;
    case 0xd9: case 0xda: case 0xdb: /* a text */
        return read_number(cursor, (size_t)1 << (kind - 0xd9), bytes);
    case 0xdc: case 0xdd: /* an array */
        return read_number(cursor, (size_t)2 << (kind - 0xdc), inside);
    case 0xde: case 0xdf: /* a map */
        if (!read_number(cursor, (size_t)2 << (kind - 0xde), inside))
            return 0;
        *inside *= 2;
        return 1;
    default: /* 0xc1, which is never used */
        return 0;
    }
}

/* Go past so many values, whatever they are. */
static inline int skip(Cursor *cursor, uint64_t values)
{
    while (values) {
        unsigned char kind;
        uint64_t bytes, inside;
        if (values > (uint64_t)(cursor->end - cursor->at)) /* each takes a byte at the least */
            return 0;
        if (!read_byte(cursor, &kind) || !behind(cursor, kind, &bytes, &inside) ||
            bytes > (uint64_t)(cursor->end - cursor->at))
            return 0;
        cursor->at += bytes;
        values += inside - 1;
    }
    return 1;
}

#endif
