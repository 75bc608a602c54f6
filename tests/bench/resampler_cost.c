/* SPDX-License-Identifier: MIT
 *
 * earshot-resampler-cost: what a stereo resampler alone costs, among others like it: once a period, as a sound server
 * would, a thread runs src_process() for each. Prints the percentage of a core for one of them, without the thread's
 * own waking and sleeping. tests/bench/many.py compares a further stream with it.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <samplerate.h>

#define CHANNELS  2
#define RATE      48000
#define COUNT_MAX 64
#define TURN      6.283185307179586
#define HZ        375
#define RATIO     1.0001
#define SECOND_NS INT64_C(1000000000)

static int64_t read_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec * SECOND_NS + time.tv_nsec;
}

/* Processor time of `periods` of them, in nanoseconds. */
static int64_t run(SRC_STATE **states, unsigned count, long frames, const float *input, float *output, long periods)
{
    int64_t due_ns = read_ns(CLOCK_MONOTONIC), before_ns = read_ns(CLOCK_THREAD_CPUTIME_ID);
    for (long i = 0; i < periods; i++) {
        due_ns += frames * SECOND_NS / RATE;
        struct timespec due = {.tv_sec = due_ns / SECOND_NS, .tv_nsec = due_ns % SECOND_NS};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        for (unsigned k = 0; k < count; k++) {
            SRC_DATA work = {.data_in = input,
                             .data_out = output + (size_t)k * (size_t)frames * CHANNELS,
                             .input_frames = frames,
                             .output_frames = frames,
                             .src_ratio = RATIO};
            src_process(states[k], &work);
        }
    }
    return read_ns(CLOCK_THREAD_CPUTIME_ID) - before_ns;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int converter;
    } qualities[] = {
        {"fastest", SRC_SINC_FASTEST       },
        {"medium",  SRC_SINC_MEDIUM_QUALITY},
        {"best",    SRC_SINC_BEST_QUALITY  }
    };
    int converter = -1, error = 0, result = 1;
    for (size_t i = 0; argc == 5 && i < sizeof qualities / sizeof qualities[0]; i++) {
        if (strcmp(argv[1], qualities[i].name) == 0)
            converter = qualities[i].converter;
    }
    long frames = argc == 5 ? strtol(argv[2], NULL, 10) : 0, count = argc == 5 ? strtol(argv[3], NULL, 10) : 0;
    long seconds = argc == 5 ? strtol(argv[4], NULL, 10) : 0;
    if (converter < 0 || frames < 16 || frames > 8192 || count < 1 || count > COUNT_MAX || seconds < 1) {
        fputs("Usage: earshot-resampler-cost fastest|medium|best FRAMES COUNT SECONDS\n", stderr);
        return 2;
    }
    SRC_STATE *states[COUNT_MAX] = {NULL};
    float *input = calloc((size_t)frames * CHANNELS, sizeof *input);
    float *output = calloc((size_t)count * (size_t)frames * CHANNELS, sizeof *output);
    bool complete = input && output;
    for (long k = 0; k < count && complete; k++)
        complete = (states[k] = src_new(converter, CHANNELS, &error)) != NULL;
    if (complete) {
        for (long i = 0; i < frames * CHANNELS; i++)
            input[i] = (float)(0.5 * sin(TURN * HZ * (double)(i / CHANNELS) / RATE));
        long periods = seconds * RATE / frames;
        int64_t idle_ns = run(states, 0, frames, input, output, periods);
        int64_t busy_ns = run(states, (unsigned)count, frames, input, output, periods);
        printf("%.4f\n", (double)(busy_ns - idle_ns) / (double)count / (double)seconds / 1e7);
        result = 0;
    }
    for (long k = 0; k < count; k++)
        if (states[k])
            src_delete(states[k]);
    free(input);
    free(output);
    return result;
}
