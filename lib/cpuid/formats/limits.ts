/** The limits of files about CPUID. Real files are under 2 MB; a larger one is refused before it is decoded. */

/** The number of bytes at the beginning of a file from which its format is detected: 64 KiB. */
export const CPUID_FILE_HEAD: number = 64 * 1024;

/** The largest file that is read, in bytes: 16 MiB. */
export const CPUID_FILE_LIMIT: number = 16 * 1024 * 1024;

/** The largest number of CPUs in a file. */
export const MOST_CPUS = 4096;

/** The largest number of entries of one CPU; KVM takes 256. */
export const MOST_ENTRIES = 1024;

/** The number of faults that are kept; further ones are counted. */
export const MOST_PROBLEMS = 100;

/** The longest line of a text format, in characters; a longer one is a fault and is not read. */
export const LONGEST_LINE = 4096;

/** The largest number of changes of a mask. */
export const MOST_MASK_ENTRIES = 16_384;
