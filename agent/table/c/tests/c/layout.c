/* The header compiles as C alone, under strict warnings, and its numbers are
 * the documented ones. The rest is compared by the test that runs this. */
#include "watchfire.h"

#include <stdio.h>

_Static_assert(sizeof(watchfire_answer) == 32, "an answer's size");
_Static_assert(offsetof(watchfire_answer, since_ms) == 0, "since_ms");
_Static_assert(offsetof(watchfire_answer, owner) == 8, "owner");
_Static_assert(offsetof(watchfire_answer, age_ns) == 16, "age_ns");
_Static_assert(offsetof(watchfire_answer, latency_us) == 24, "latency_us");
_Static_assert(offsetof(watchfire_answer, verdict) == 28, "verdict");
_Static_assert(offsetof(watchfire_answer, flags) == 29, "flags");
_Static_assert(offsetof(watchfire_answer, reason) == 30, "reason");
_Static_assert(offsetof(watchfire_answer, fresh) == 31, "fresh");
_Static_assert(sizeof(watchfire_cursor) == 16, "a cursor's size");

int main(void) {
    printf("%d %d %zu %zu %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %d %zu "
           "%zu\n",
           WATCHFIRE_NAME_BYTES,
           WATCHFIRE_NODE_NAME_BYTES, sizeof(watchfire_answer),
           sizeof(watchfire_cursor), WATCHFIRE_UNKNOWN, WATCHFIRE_UP,
           WATCHFIRE_DOWN, WATCHFIRE_DRAINING, WATCHFIRE_NOT_IN_TABLE,
           WATCHFIRE_BUSY, WATCHFIRE_FORCED, WATCHFIRE_CARRIED,
           WATCHFIRE_FROZEN, WATCHFIRE_DEGRADED, WATCHFIRE_DO_NOT_USE,
           WATCHFIRE_TRY_LAST, WATCHFIRE_USE, WATCHFIRE_STATIC, WATCHFIRE_OPEN,
           WATCHFIRE_NORMAL, WATCHFIRE_BRAKED, WATCHFIRE_POP_FROZEN,
           sizeof(watchfire_name), sizeof(watchfire_rule));
    return 0;
}
