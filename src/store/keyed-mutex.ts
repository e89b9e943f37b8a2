/** One piece of work at a time per key, in the order asked; different keys do not wait for each other. */
export interface KeyedMutex {
  run<T>(key: string, work: () => Promise<T>): Promise<T>
  /** Resolves when everything asked for before has ended. */
  idle(): Promise<void>
}

export function createKeyedMutex(): KeyedMutex {
  const tails = new Map<string, Promise<void>>()
  return {
    run: (key, work) => {
      const result = (tails.get(key) ?? Promise.resolve()).then(work)
      // The caller gets the failure through `result`; the next in line must run all the same.
      const tail = result.then(
        () => undefined,
        () => undefined,
      )
      tails.set(key, tail)
      void tail.then(() => {
        if (tails.get(key) === tail) tails.delete(key)
      })
      return result
    },
    idle: async () => {
      await Promise.all(tails.values())
    },
  }
}
