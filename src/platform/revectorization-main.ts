// Has the kernels compared and the verdict kept for later starts: run by revectorization.ts beside a process that does not wait for it.
import { constants, setPriority } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { revectorization } from './revectorization.ts';

/** Milliseconds in which the first token of a small model comes: the processor is left to the process that this runs beside. */
const HEAD_START = 1000;

setPriority(constants.priority.PRIORITY_LOW);
await pause(HEAD_START);
await revectorization();
