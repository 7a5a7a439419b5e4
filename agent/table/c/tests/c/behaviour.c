/* Everything in the header, called once on a table that the test wrote:
 * behaviour TABLE. Prints what it finds; the test compares. */
#include "watchfire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void show(const watchfire_table *table, const char *name,
                 uint64_t now_ns) {
    watchfire_answer answer;
    int verdict = watchfire_lookup(table, name, strlen(name), now_ns, &answer);
    watchfire_answer again;
    watchfire_use(table, name, strlen(name), now_ns, WATCHFIRE_STATIC, &again);
    if (verdict != answer.verdict ||
        memcmp(&answer, &again, sizeof answer) != 0 ||
        watchfire_lookup(table, name, strlen(name), now_ns, NULL) != verdict) {
        printf("%s: lookups differ\n", name);
        exit(1);
    }
    char node[WATCHFIRE_NODE_NAME_BYTES];
    int node_bytes = watchfire_node_name(table, answer.owner, node);
    printf("%s %d %u %u %" PRIu64 " %u %d %" PRIu64 " %.*s %s\n", name, verdict,
           answer.flags, answer.reason, answer.since_ms, answer.latency_us,
           answer.fresh, answer.age_ns, node_bytes, node,
           watchfire_reason(answer.reason));
}

int main(int argc, char **argv) {
    char error[256];
    watchfire_table *table;
    if (argc != 2) return 2;
    if (watchfire_open("/nonexistent/table", &table, error, sizeof error) !=
            -ENOENT ||
        table != NULL || strstr(error, "no table at /nonexistent/table") == NULL)
        return 3;
    if (watchfire_open("/nonexistent/table", &table, NULL, 0) != -ENOENT)
        return 4;
    char tiny[4];
    watchfire_open("/nonexistent/table", &table, tiny, sizeof tiny);
    if (strcmp(tiny, "no ") != 0) return 5;
    watchfire_close(NULL);

    if (watchfire_open(argv[1], &table, error, sizeof error) != 0) {
        puts(error);
        return 6;
    }
    if (watchfire_refresh(table) != 0) return 7;
    uint64_t age_ns;
    if (watchfire_fresh(table, 2000, &age_ns) != 1 || age_ns != 1000) return 8;
    if (watchfire_fresh(table, UINT64_C(1) << 60, NULL) != 0) return 9;
    if (watchfire_now_ns() == 0) return 10;
    uint64_t since_ms;
    if (watchfire_pop_state(table, &since_ms) != WATCHFIRE_BRAKED ||
        since_ms != 1700000000456)
        return 13;

    show(table, "up", 2000);
    show(table, "down", 2000);
    show(table, "draining", 2000);
    show(table, "unknown", 2000);
    show(table, "absent", 2000);
    show(table, "", 2000);

    watchfire_cursor cursor = {0, 0};
    watchfire_answer answer;
    char name[WATCHFIRE_NAME_BYTES];
    size_t name_bytes;
    int found, names = 0;
    size_t all_bytes = 0;
    while ((found = watchfire_next(table, &cursor, 2000, name, &name_bytes,
                                   &answer)) == 1) {
        names++;
        all_bytes += name_bytes;
        if (watchfire_lookup(table, name, name_bytes, 2000, NULL) !=
            answer.verdict)
            return 11;
    }
    printf("%d names of %zu bytes, end %d\n", names, all_bytes, found);
    watchfire_cursor old = {99, 0};
    if (watchfire_next(table, &old, 2000, name, &name_bytes, &answer) != -EAGAIN)
        return 12;
    watchfire_close(table);
    return 0;
}
