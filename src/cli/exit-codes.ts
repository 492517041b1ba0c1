/** Of a process that could not go on because another one of its group failed. */
export const GROUP_FAILED = 3
