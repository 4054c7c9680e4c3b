/* The run-time compiler of HIP (libhiprtc) for the emulated GPU: it translates nothing.
 *
 * Written without hip/hiprtc.h, whose types differ between releases. Every function returns 0 for success. */
#include "emulated_gpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ARCHITECTURE "--offload-arch="
#define OUT_OF_MEMORY 1
#define INVALID_OPTION 5

/* FNV-1a. */
static unsigned long long checksum(unsigned long long sum, const char *text) {
    for (; *text; text++) sum = (sum ^ (unsigned char)*text) * 0x100000001b3ull;
    return sum;
}

int hiprtcCreateProgram(struct code_object **program, const char *source, const char *name, int count,
                        const char **headers, const char **names) {
    struct code_object *code = *program = calloc(1, sizeof *code);
    if (!code) return OUT_OF_MEMORY;
    strcpy(code->magic, CODE_OBJECT);
    code->checksum = checksum(0xcbf29ce484222325ull, source);
    for (int at = 0; at < count; at++) code->checksum = checksum(code->checksum, headers[at]);
    return 0;
}

int hiprtcDestroyProgram(struct code_object **program) {
    free(*program);
    *program = NULL;
    return 0;
}

int hiprtcCompileProgram(struct code_object *program, int count, const char **options) {
    for (int at = 0; at < count; at++)
        if (!strncmp(options[at], ARCHITECTURE, strlen(ARCHITECTURE)))
            snprintf(program->architecture, sizeof program->architecture, "%s", options[at] + strlen(ARCHITECTURE));
    return *program->architecture ? 0 : INVALID_OPTION;
}

int hiprtcGetProgramLogSize(struct code_object *program, size_t *size) {
    *size = 0;
    return 0;
}

int hiprtcGetCodeSize(struct code_object *program, size_t *size) {
    *size = sizeof *program;
    return 0;
}

int hiprtcGetCode(struct code_object *program, char *code) {
    memcpy(code, program, sizeof *program);
    return 0;
}

const char *hiprtcGetErrorString(int result) { return "error of the emulated compiler"; }
