/* A proxy's loop without the proxy: asks for each of COUNT origins o0, o1 ...
 * again and again for so long: uses TABLE COUNT MILLISECONDS. Prints how often
 * it asked, and how often it was to send nothing. */
#include "watchfire.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv) {
    char error[256], name[32];
    watchfire_table *table;
    if (argc != 4) return 2;
    if (watchfire_open(argv[1], &table, error, sizeof error) != 0) {
        puts(error);
        return 3;
    }
    int count = atoi(argv[2]);
    uint64_t end_ns =
        watchfire_now_ns() + strtoull(argv[3], NULL, 10) * UINT64_C(1000000);
    uint64_t asked = 0, refused = 0, now_ns;
    while ((now_ns = watchfire_now_ns()) < end_ns) {
        for (int n = 0; n < count; n++) {
            int length = snprintf(name, sizeof name, "o%d", n);
            asked++;
            refused += watchfire_use(table, name, (size_t)length, now_ns,
                                     WATCHFIRE_STATIC,
                                     NULL) == WATCHFIRE_DO_NOT_USE;
        }
        usleep(500);
    }
    printf("%" PRIu64 " %" PRIu64 "\n", asked, refused);
    watchfire_close(table);
    return 0;
}
