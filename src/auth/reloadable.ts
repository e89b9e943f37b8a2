/** A value read from files at start and again on request: swapped whole, or left as it was when the new one is bad. */

export interface Reloadable<T> {
  readonly value: T
  /** Grows with every reload that took effect. */
  readonly version: number
  /** Rejects as `load` did, and the old value stays. */
  reload(): Promise<void>
}

export async function createReloadable<T>(load: () => Promise<T>): Promise<Reloadable<T>> {
  let value = await load()
  let version = 0
  let turn: Promise<void> = Promise.resolve()

  async function swap(): Promise<void> {
    value = await load()
    version += 1
  }

  return {
    get value() {
      return value
    },
    get version() {
      return version
    },
    // One at a time: of two that overlap, the one that read the older files could otherwise finish last.
    reload: () => {
      turn = turn.then(swap, swap)
      return turn
    },
  }
}
