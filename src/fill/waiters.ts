/**
 * Readers waiting for a byte. One is woken when its own byte has come or everything has changed, never because others
 * got theirs: a hundred followers of a fill cost it one comparison each per batch.
 */
export interface Waiter {
  readonly position: number
  /** One past the last byte the reader will want; `Infinity` where it wants the rest. */
  readonly endByte: number
}

export interface Waiters {
  /** Resolves when woken. Throws the `signal`'s reason. */
  wait(waiter: Waiter, signal: AbortSignal): Promise<void>
  /** Bytes from `startByte` up to but not including `endByte` can be read now. */
  wake(startByte: number, endByte: number): void
  wakeAll(): void
  list(): Waiter[]
}

export function createWaiters(): Waiters {
  const waiting = new Map<() => void, Waiter>()
  return {
    wait: (waiter, signal) =>
      new Promise<void>((resolve, reject) => {
        if (signal.aborted) return reject(signal.reason)
        const settle = () => {
          waiting.delete(wake)
          signal.removeEventListener('abort', abort)
        }
        const wake = () => {
          settle()
          resolve()
        }
        const abort = () => {
          settle()
          reject(signal.reason)
        }
        waiting.set(wake, waiter)
        signal.addEventListener('abort', abort)
      }),
    wake(startByte, endByte) {
      for (const [wake, { position }] of waiting) if (position >= startByte && position < endByte) wake()
    },
    wakeAll() {
      for (const wake of [...waiting.keys()]) wake()
    },
    list: () => [...waiting.values()],
  }
}
