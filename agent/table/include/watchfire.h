/* watchfire.h: reading Watchfire's table from C.
 *
 * The agent on this server keeps a table in shared memory: the name of an
 * origin -> whether to send requests to it. This library looks names up.
 *
 *   - A handle may be used by any number of threads at once. Only closing it
 *     needs care: no other thread may be using it.
 *   - A lookup takes no lock, allocates nothing, reads no clock and makes no
 *     system call. Two rare cases open the table's file anew: the agent moved
 *     to a larger file, or has been silent for longer than it promised (then
 *     at most one look per second).
 *   - now_ns is the caller's CLOCK_MONOTONIC in nanoseconds. A time that was
 *     read a moment ago (once per request or per event loop turn) will do.
 *   - A stale table keeps its verdicts. Whether to believe them (fail static)
 *     or to use every origin (fail open) is the caller's to decide.
 *
 * Functions that can fail return a negative errno.
 */
#ifndef WATCHFIRE_H
#define WATCHFIRE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Longest name of an origin, and longest name of a node, bytes. */
#define WATCHFIRE_NAME_BYTES 255
#define WATCHFIRE_NODE_NAME_BYTES 64

/* What a lookup returns. */
#define WATCHFIRE_UNKNOWN 0      /* nobody measured it, or nobody can */
#define WATCHFIRE_UP 1           /* send requests */
#define WATCHFIRE_DOWN 2         /* send none */
#define WATCHFIRE_DRAINING 3     /* finish what is open, send no new ones */
#define WATCHFIRE_NOT_IN_TABLE 4 /* never configured, or removed */
#define WATCHFIRE_BUSY 5         /* overtaken by the writer: keep what you knew */

/* Remarks on a verdict. */
#define WATCHFIRE_FORCED 1  /* an operator's override */
#define WATCHFIRE_CARRIED 2 /* of an earlier definition of the check */
#define WATCHFIRE_FROZEN 4  /* the owner doubts its own path */

/* An open table. */
typedef struct watchfire_table watchfire_table;

/* What the table says of one origin. For NOT_IN_TABLE and BUSY only verdict,
 * fresh and age_ns are set; the rest is zero. */
typedef struct watchfire_answer {
    uint64_t since_ms;   /* of the verdict, ms since 1970, owner's clock */
    uint64_t owner;      /* node that said so; 0 if unknown */
    uint64_t age_ns;     /* since the agent's last sign of life */
    uint32_t latency_us; /* of the probe at the last write */
    uint8_t verdict;     /* WATCHFIRE_UNKNOWN ... WATCHFIRE_BUSY */
    uint8_t flags;       /* WATCHFIRE_FORCED | ... */
    uint8_t reason;      /* see watchfire_reason */
    uint8_t fresh;       /* 1: the agent lives; 0: the table is stale */
} watchfire_answer;

/* Where an iteration stands; begin with all zero. */
typedef struct watchfire_cursor {
    uint64_t generation;
    uint64_t slot;
} watchfire_cursor;

/* Opens the table at a path. On failure returns a negative errno, sets *table
 * to NULL and, if error_bytes > 0, writes to error what is wrong and what to
 * do, ended by a zero byte. */
int watchfire_open(const char *path, watchfire_table **table, char *error,
                   size_t error_bytes);

/* Closes a handle; NULL is allowed. */
void watchfire_close(watchfire_table *table);

/* Looks a name up. Returns the verdict, and fills *answer unless it is NULL. */
int watchfire_lookup(const watchfire_table *table, const void *name,
                     size_t name_bytes, uint64_t now_ns,
                     watchfire_answer *answer);

/* The same with the name's hash, computed earlier by watchfire_hash. */
int watchfire_lookup_hashed(const watchfire_table *table, uint64_t hash,
                            const void *name, size_t name_bytes,
                            uint64_t now_ns, watchfire_answer *answer);

/* The hash of a name. */
uint64_t watchfire_hash(const void *name, size_t name_bytes);

/* Whether the agent lives: 1 or 0. Writes the time since its last sign of life
 * to *age_ns unless that is NULL. */
int watchfire_fresh(const watchfire_table *table, uint64_t now_ns,
                    uint64_t *age_ns);

/* The next origin after the cursor: returns 1 and fills name (of at least
 * WATCHFIRE_NAME_BYTES), *name_bytes and *answer; 0 at the end; -EAGAIN if the
 * agent moved to another file meanwhile (start over with a zero cursor). */
int watchfire_next(const watchfire_table *table, watchfire_cursor *cursor,
                   uint64_t now_ns, char *name, size_t *name_bytes,
                   watchfire_answer *answer);

/* The configured name of a node: returns its length and writes it to name (of
 * at least WATCHFIRE_NODE_NAME_BYTES, no zero byte at its end); 0 if the table
 * does not know it. Searches: for people, not for every request. */
int watchfire_node_name(const watchfire_table *table, uint64_t node,
                        char *name);

/* A reason in words, to follow "because": a constant string. */
const char *watchfire_reason(uint8_t reason);

/* Follows the agent to its present file now, rather than at a lookup: 1 if it
 * had moved, 0 if not, or a negative errno (the handle stays as it was). */
int watchfire_refresh(const watchfire_table *table);

/* CLOCK_MONOTONIC in nanoseconds, for callers with no better way. */
uint64_t watchfire_now_ns(void);

#ifdef __cplusplus
}
#endif
#endif
