/* Opens files of arbitrary bytes and calls everything on those that pass for
 * tables: fuzz FILE... Built with the address sanitizer, so that a read out of
 * bounds ends it. Prints how many opened. */
#include "watchfire.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    int opened = 0;
    for (int i = 1; i < argc; i++) {
        /* On the heap's edge, so that a name read too far is noticed. */
        char error[64];
        watchfire_table *table;
        if (watchfire_open(argv[i], &table, error, sizeof error) != 0) continue;
        opened++;
        watchfire_cursor cursor = {0, 0};
        watchfire_answer answer;
        char name[WATCHFIRE_NAME_BYTES], node[WATCHFIRE_NODE_NAME_BYTES];
        size_t bytes;
        while (watchfire_next(table, &cursor, 1, name, &bytes, &answer) == 1) {
            if (bytes > WATCHFIRE_NAME_BYTES) return 1;
            watchfire_lookup(table, name, bytes, 1, &answer);
            watchfire_node_name(table, answer.owner, node);
        }
        for (int n = 0; n < 64; n++) {
            int length = snprintf(name, sizeof name, "origin-%d", n);
            watchfire_lookup(table, name, (size_t)length, 1, &answer);
            memset(name, n, sizeof name);
            watchfire_lookup(table, name, (size_t)n * 4, 1, &answer);
        }
        watchfire_name names[64];
        uint8_t usages[64];
        watchfire_rule rule = {1, 50, WATCHFIRE_OPEN, 0};
        for (int n = 0; n < 64; n++) {
            names[n].bytes = name;
            names[n].length = (size_t)n * 3;
        }
        watchfire_pool(table, names, 64, 1, &rule, usages);
        watchfire_pop_state(table, NULL);
        watchfire_fresh(table, 1, NULL);
        watchfire_refresh(table);
        watchfire_close(table);
    }
    printf("%d\n", opened);
    return 0;
}
