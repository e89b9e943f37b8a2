/**
 * The port of wake-ups: which key has work, and how soon. An entry is only a hint that something is due; what is to be
 * done, and whether it failed before, stands in the tracking database. Losing every entry costs time, never work.
 */

/** Lower runs first. */
export const PRIORITIES = { asked: 1, event: 2, reconcile: 3 } as const
export type Priority = (typeof PRIORITIES)[keyof typeof PRIORITIES]

export interface Wake {
  /** One repository's path, or the name of another piece of work. At most one run of a key is under way at a time. */
  readonly key: string
  readonly priority: Priority
  /** Not before so many milliseconds from now; default 0. */
  readonly delayMs?: number | undefined
}

export interface WorkOptions {
  /** Runs under way at a time in this process. */
  readonly concurrency: number
}

/** Must not reject for what went wrong in the work itself: that is settled in the tracking database. */
export type Run = (key: string, signal: AbortSignal) => Promise<void>

export interface Queue extends AsyncDisposable {
  /**
   * Resolves when the wake-up is as safe as this queue can make it. A key that waits already keeps one entry with the
   * sooner time and the more urgent priority; a key that is running runs again afterwards.
   */
  wake(wake: Wake): Promise<void>
  /** Begins to run; once per queue. `signal` is aborted when the queue is closed or the run was lost to another process. */
  work(run: Run, options: WorkOptions): void
  /** Nothing new is begun, by any process on this queue, until `resume`; survives a restart where the queue does. */
  pause(): Promise<void>
  resume(): Promise<void>
  isPaused(): Promise<boolean>
  /** Entries waiting or delayed, and runs under way. */
  depth(): Promise<{ readonly waiting: number; readonly running: number }>
}
