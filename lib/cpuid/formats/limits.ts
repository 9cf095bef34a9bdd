/**
 * The limits of files about CPUID. Real files are smaller than 2 MB; a file above the limit is rejected before it is
 * decoded.
 */

/** The number of bytes at the beginning of a file from which its format is detected: 64 KiB. */
export const CPUID_FILE_HEAD: number = 64 * 1024;

/** The maximum size of a file that is read, in bytes: 16 MiB. */
export const CPUID_FILE_LIMIT: number = 16 * 1024 * 1024;

/** The maximum number of CPUs in a file. */
export const MOST_CPUS = 4096;

/** The maximum number of entries of one CPU; KVM accepts 256. */
export const MOST_ENTRIES = 1024;

/** The maximum number of faults in the list; further faults are only counted. */
export const MOST_PROBLEMS = 100;

/** The maximum length of a line in a text format, in characters; a longer line is a fault and is not read. */
export const LONGEST_LINE = 4096;

/** The maximum number of changes in a mask. */
export const MOST_MASK_ENTRIES = 16_384;
