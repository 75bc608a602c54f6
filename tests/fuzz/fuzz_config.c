/* SPDX-License-Identifier: MIT
 *
 * A configuration file's content. Input: the file.
 */
#include "receiver/config.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config *config = NULL, *again = NULL;
    char error[CONFIG_ERROR_MAX] = "";
    char *text = malloc(size + 1);
    fuzz_must(text != NULL);
    memcpy(text, data, size);
    int r = config_parse(&config, "/x/fuzz.conf", text, size, error);
    /* Either it is good, or one line says why not. */
    fuzz_must(r == 0 ? config != NULL && !*error : config == NULL && *error && !strchr(error, '\n'));
    if (config) {
        const struct options *options = &config->options;
        fuzz_must(options->port > 0 && options->from_count <= OPTIONS_SENDERS_MAX && config->text_bytes <= size + 2);
        fuzz_must(options->source != FROM_NONE && !options->raw && options->group && options->backend);
        fuzz_must(config_parse(&again, "/x/fuzz.conf", text, size, error) == 0 && config_same(config, again));
    }
    free(text);
    config_unref(config);
    config_unref(again);
    return 0;
}
