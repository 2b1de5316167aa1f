/* Timing of code that does the same work in different ways, turn by turn, so that a busy moment of the machine hits all alike. For
 * benchmarks. */
#ifndef PRXI_RACE_H
#define PRXI_RACE_H

enum { PRXI_RACE_RUNS = 101 };

typedef struct prxi_contender {
    void (*fn)(void *cookie);
    void *cookie;
    double seconds[PRXI_RACE_RUNS];  /* of a run, a value for each turn, ascending */
    int turns;
    double median, best;             /* best: what the rest of the machine touches least, for rates and ratios */
} prxi_contender;

/* At least min_turns each (up to PRXI_RACE_RUNS), more until about `seconds` have passed. */
void prxi_race(prxi_contender *c, int n, int min_turns, double seconds);

#endif
