/* What the parts of the emulated GPU share. */

/* A handle of something that has no state: never NULL, never read. */
#define NOTHING ((void *)64)

/* What the emulated compiler writes in place of machine code, and the emulated runtime loads. */
#define CODE_OBJECT "emulated GPU"
struct code_object {
    char magic[16];
    char architecture[64];       /* such as gfx942:sramecc+:xnack- */
    unsigned long long checksum; /* of the source: MIGraphX merges instructions with equal code objects */
};
