/* SPDX-License-Identifier: MIT
 *
 * earshot-sim: runs the trials over a number of seeds and prints a table of every gate; or, with --soak, hours of random
 * faults over each transport.
 */
#include "tests/sim/gates.h"
#include "tests/sim/soak.h"

#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRIALS_MAX   128
#define SEEDS_MAX    100
#define WORKERS      2
#define SECONDS      300.0
#define SOAK_SECONDS 10800.0

struct run_options {
    unsigned seeds, first_seed, workers;
    double seconds;
    bool quick, long_runs, all_rows, soak;
    const char *only, *csv_dir, *plot_dir;
};

static bool wanted(const struct trial *trial, const struct run_options *options)
{
    if (trial->long_run)
        return options->long_runs;
    return !options->quick || trial->quick;
}

static unsigned trial_seeds(const struct trial *trial, const struct run_options *options)
{
    return trial->long_run ? 1 : options->seeds;
}

static void file_name(char *path, size_t size, const char *dir, const char *trial, const char *suffix)
{
    char safe[64];
    size_t i = 0;
    for (; trial[i] && i < sizeof safe - 1; i++)
        safe[i] = strchr(" +%,/", trial[i]) ? '_' : trial[i];
    safe[i] = 0;
    snprintf(path, size, "%s/%s%s", dir, safe, suffix);
}

static void run_one(const struct trial *trial, unsigned seed, const struct run_options *options,
                    struct sim_result *result)
{
    struct sim_options one = {.seed = seed + options->first_seed, .thd = trial->thd};
    char path[512];
    if (options->csv_dir && seed == 0) {
        file_name(path, sizeof path, options->csv_dir, trial->name, ".csv");
        one.csv = fopen(path, "w");
        if (!one.csv)
            fprintf(stderr, "cannot write %s\n", path);
    }
    sim_run(&trial->scenario, &one, result);
    if (one.csv)
        fclose(one.csv);
}

/* Prints each gate of a trial with its worst seed; returns how many fail. */
static unsigned report(const struct trial *trial, const struct sim_result *results, const struct run_options *options)
{
    unsigned seeds = trial_seeds(trial, options);
    unsigned failed = 0;
    for (const struct gate *g = trial->gates; g->name; g++) {
        double low = INFINITY, high = -INFINITY;
        unsigned at = 0;
        bool bad = false;
        for (unsigned s = 0; s < seeds; s++) {
            double value;
            memcpy(&value, (const char *)&results[s] + g->field, sizeof value);
            if (value > high)
                at = s;
            low = fmin(low, value);
            high = fmax(high, value);
            bad |= !(value >= g->min && value <= g->max);
        }
        failed += bad;
        if (!bad && !options->all_rows)
            continue;
        printf("%-4s %-42s %-28s %10.3f .. %-10.3f", bad ? "FAIL" : "ok", trial->name, g->name, low, high);
        if (isfinite(g->min))
            printf(" >= %g", g->min);
        if (isfinite(g->max))
            printf(" <= %g", g->max);
        printf("  (seed %u)\n", at + options->first_seed);
    }
    return failed;
}

static void plot(const struct trial *trial, const struct run_options *options)
{
    char csv[512], png[512];
    file_name(csv, sizeof csv, options->csv_dir, trial->name, ".csv");
    file_name(png, sizeof png, options->plot_dir, trial->name, ".png");
    FILE *gnuplot = popen("gnuplot", "w");
    if (!gnuplot)
        return;
    fprintf(gnuplot,
            "set terminal pngcairo size 1200,800\nset output '%s'\nset datafile separator ','\n"
            "set datafile missing 'nan'\nset multiplot layout 2,1 title \"%s\"\nset xlabel 's'\nset grid\n"
            "set ylabel 'ms'\nplot '%s' using 1:2 with lines title 'fill', '' using 1:3 with lines title 'target'\n"
            "set ylabel 'ppm'\nplot '%s' using 1:4 with lines title 'ratio error'\nunset multiplot\n",
            png, trial->name, csv, csv);
    if (pclose(gnuplot) != 0)
        fprintf(stderr, "gnuplot could not draw %s\n", png);
}

static int usage(FILE *out)
{
    fputs("earshot-sim [--seeds N] [--first-seed N] [--seconds S] [--only TEXT] [--quick] [--long] [--all] "
          "[--workers N]\n"
          "            [--csv DIR] [--plot DIR]\n"
          "earshot-sim --soak [--seeds N] [--first-seed N] [--seconds S] [--only shm|udp] [--all] [--workers N]\n"
          "  --quick  the short matrix   --long  the 24 h runs as well   --all  print passed gates too\n"
          "  --soak   random faults all the time, 3 h where --seconds says nothing else; --all prints each fault\n",
          out);
    return out == stderr ? 2 : 0;
}

static int parse(int argc, char **argv, struct run_options *o)
{
    static const struct option table[] = {
        {"seeds",      required_argument, NULL, 's'},
        {"first-seed", required_argument, NULL, 'f'},
        {"seconds",    required_argument, NULL, 't'},
        {"only",       required_argument, NULL, 'o'},
        {"quick",      no_argument,       NULL, 'q'},
        {"long",       no_argument,       NULL, 'l'},
        {"all",        no_argument,       NULL, 'a'},
        {"csv",        required_argument, NULL, 'c'},
        {"plot",       required_argument, NULL, 'p'},
        {"help",       no_argument,       NULL, 'h'},
        {"workers",    required_argument, NULL, 'w'},
        {"soak",       no_argument,       NULL, 'k'},
        {NULL,         0,                 NULL, 0  },
    };
    for (int c; (c = getopt_long(argc, argv, "h", table, NULL)) != -1;) {
        switch (c) {
        case 'f':
            o->first_seed = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 's':
            o->seeds = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 't':
            o->seconds = strtod(optarg, NULL);
            break;
        case 'w':
            o->workers = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'o':
            o->only = optarg;
            break;
        case 'q':
            o->quick = true;
            break;
        case 'l':
            o->long_runs = true;
            break;
        case 'a':
            o->all_rows = true;
            break;
        case 'c':
            o->csv_dir = optarg;
            break;
        case 'p':
            o->plot_dir = optarg;
            break;
        case 'k':
            o->soak = true;
            break;
        case 'h':
            return usage(stdout);
        default:
            return usage(stderr);
        }
    }
    if (o->seeds == 0)
        o->seeds = o->soak ? 1 : 20;
    if (o->seconds == 0.0)
        o->seconds = o->soak ? SOAK_SECONDS : SECONDS;
    if (o->seeds < 1 || o->seeds > SEEDS_MAX || o->seconds < 250.0 || o->workers < 1 || o->workers > 64) {
        fprintf(stderr, "earshot-sim: 1 to %d seeds, at least 250 s, 1 to 64 workers\n", SEEDS_MAX);
        return 2;
    }
    if (o->plot_dir && !o->csv_dir)
        o->csv_dir = o->plot_dir;
    return -1;
}

/* Both transports, each seed, `workers` at a time: each a process, whose report is printed as a whole. */
static int soak(const struct run_options *options)
{
    static const enum source_kind kinds[] = {SOURCE_SHM, SOURCE_UDP};
    char directory[] = "/tmp/earshot-soak-XXXXXX";
    if (!mkdtemp(directory) || chdir(directory) < 0)
        return 1;
    unsigned running = 0, failed = 0, jobs = 0;
    for (unsigned job = 0; job < 2 * options->seeds || running > 0; job++) {
        const enum source_kind kind = kinds[job % 2];
        const bool there = job < 2 * options->seeds;
        const bool chosen = there && (!options->only || !strcmp(options->only, kind == SOURCE_SHM ? "shm" : "udp"));
        if (running == options->workers || (!there && running > 0)) {
            int status;
            failed += wait(&status) < 0 || status != 0;
            running--;
        }
        if (!chosen)
            continue;
        jobs++;
        running++;
        fflush(stdout);
        pid_t pid = fork();
        if (pid < 0)
            return 1;
        if (pid == 0) {
            static char buffer[1 << 16];
            setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
            const struct soak_params params = {
                .kind = kind,
                .seed = job / 2 + options->first_seed,
                .seconds = options->seconds,
                .verbose = options->all_rows,
            };
            int result = soak_run(&params);
            fflush(stdout);
            _exit(result);
        }
    }
    if (chdir("/") < 0 || rmdir(directory) < 0)
        fprintf(stderr, "%s is left behind\n", directory);
    printf("%u soaks, %u failed\n", jobs, failed);
    return jobs == 0 || failed > 0;
}

/* One of several processes: its share of the trials and seeds. Tells the trial's number when one of its runs is done. */
static void work(const struct trial *const *chosen, size_t n, unsigned worker, const struct run_options *options,
                 struct sim_result *results, int done_fd)
{
    unsigned job = 0;
    for (unsigned i = 0; i < n; i++) {
        for (unsigned s = 0; s < trial_seeds(chosen[i], options); s++) {
            if (job++ % options->workers != worker)
                continue;
            run_one(chosen[i], s, options, &results[i * SEEDS_MAX + s]);
            if (write(done_fd, &i, sizeof i) != sizeof i)
                _exit(1);
        }
    }
    _exit(0);
}

/* Reports each trial as soon as it and those before it are done: the whole matrix takes an hour. Returns how many gates
 * fail, or -1 where a worker died. */
static int report_all(const struct trial *const *chosen, size_t n, const struct run_options *options,
                      const struct sim_result *results, int done_fd)
{
    unsigned missing[TRIALS_MAX];
    int failed = 0;
    for (size_t i = 0; i < n; i++)
        missing[i] = trial_seeds(chosen[i], options);
    for (size_t next = 0; next < n;) {
        unsigned done;
        if (read(done_fd, &done, sizeof done) != sizeof done)
            return -1;
        missing[done]--;
        for (; next < n && missing[next] == 0; next++) {
            failed += (int)report(chosen[next], &results[next * SEEDS_MAX], options);
            fflush(stdout);
            if (options->plot_dir)
                plot(chosen[next], options);
        }
    }
    return failed;
}

int main(int argc, char **argv)
{
    struct run_options options = {.first_seed = 1, .workers = WORKERS};
    int done = parse(argc, argv, &options);
    if (done >= 0)
        return done;
    if (options.soak)
        return soak(&options);

    struct trial *all = calloc(TRIALS_MAX, sizeof *all);
    const struct trial **chosen = calloc(TRIALS_MAX, sizeof *chosen);
    const size_t results_size = sizeof(struct sim_result) * TRIALS_MAX * SEEDS_MAX;
    struct sim_result *results = mmap(NULL, results_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (!all || !chosen || results == MAP_FAILED)
        return 1;
    size_t count = gates_list(all, TRIALS_MAX, options.seconds), n = 0;
    for (size_t i = 0; i < count; i++)
        if (wanted(&all[i], &options) && (!options.only || strstr(all[i].name, options.only)))
            chosen[n++] = &all[i];

    int done_pipe[2];
    if (pipe(done_pipe) < 0)
        return 1;
    for (unsigned w = 0; w < options.workers; w++) {
        pid_t pid = fork();
        if (pid < 0)
            return 1;
        if (pid == 0)
            work(chosen, n, w, &options, results, done_pipe[1]);
    }
    close(done_pipe[1]);
    const int failed = report_all(chosen, n, &options, results, done_pipe[0]);
    for (unsigned w = 0; w < options.workers; w++)
        wait(NULL);
    if (failed < 0) {
        fprintf(stderr, "a worker died\n");
        return 1;
    }
    unsigned gates = 0;
    for (size_t i = 0; i < n; i++)
        for (const struct gate *g = chosen[i]->gates; g->name; g++)
            gates++;
    printf("%zu trials, %u gates, %d failed\n", n, gates, failed);
    free(all);
    free(chosen);
    munmap(results, results_size);
    return n == 0 || failed > 0;
}
