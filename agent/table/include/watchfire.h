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
 *   - watchfire_use and watchfire_pool say what to do with an origin or a pool:
 *     one rule for every proxy, also for tables that are stale, missing, moved
 *     or foreign. watchfire_lookup says what the table says.
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
#define WATCHFIRE_FROZEN 4  /* kept: the owner doubts its path, or an operator's wish */
#define WATCHFIRE_DEGRADED 8 /* up, but by the check's own signs not quite well */

/* What to do with an origin. */
#define WATCHFIRE_DO_NOT_USE 0
#define WATCHFIRE_TRY_LAST 1 /* only what no origin to use could take */
#define WATCHFIRE_USE 2

/* What a stale table means: one whose agent is dead or stopped. */
#define WATCHFIRE_STATIC 0 /* its last verdicts hold */
#define WATCHFIRE_OPEN 1   /* use all but what an operator took out */

/* How the POP is: for people and metrics, decide nothing by it. */
#define WATCHFIRE_NORMAL 0
#define WATCHFIRE_BRAKED 1     /* new downs are held: is it the POP's uplink? */
#define WATCHFIRE_POP_FROZEN 2 /* by an operator */

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

/* What to do with an origin: WATCHFIRE_DO_NOT_USE, TRY_LAST or USE.
 *
 *   up                                   use
 *   up, degraded                         try last
 *   down                                 do not use
 *   draining, or down by an operator     do not use, whatever else
 *   unknown, not in the table            use: nobody says that it is bad
 *   overtaken by the writer              try last
 *   stale table                          by its last verdicts (WATCHFIRE_STATIC)
 *                                        or use (WATCHFIRE_OPEN)
 *   no table: NULL for the handle        use; try again to open it, say, once a
 *                                        second. The same for a file that
 *                                        watchfire_open refuses.
 *
 * Fills *answer unless it is NULL. */
int watchfire_use(const watchfire_table *table, const void *name,
                  size_t name_bytes, uint64_t now_ns, int when_stale,
                  watchfire_answer *answer);

/* A name of a pool. */
typedef struct watchfire_name {
    const void *bytes;
    size_t length;
} watchfire_name;

/* When a pool is in panic. Begin with all zero: no panic, fail static. */
typedef struct watchfire_rule {
    uint32_t at_least;     /* origins that must be usable */
    uint8_t share_percent; /* of the pool, less what an operator took out */
    uint8_t when_stale;    /* WATCHFIRE_STATIC or WATCHFIRE_OPEN */
    uint16_t reserved;     /* zero */
} watchfire_rule;

/* What to do with each origin of a pool; NULL for the handle is no table.
 * Writes count answers to usages. Where fewer are usable than the rule wants,
 * those to be tried last are used too; where that is not enough either, the
 * pool is in panic: all are used but for what an operator took out, since the
 * fault is then rarely the origins'. Returns 1 in panic, else 0. */
int watchfire_pool(const watchfire_table *table, const watchfire_name *names,
                   size_t count, uint64_t now_ns, const watchfire_rule *rule,
                   uint8_t *usages);

/* How the POP is: WATCHFIRE_NORMAL, BRAKED or POP_FROZEN. Writes since when, ms
 * since 1970 on this server's clock, to *since_ms unless that is NULL. */
int watchfire_pop_state(const watchfire_table *table, uint64_t *since_ms);

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
