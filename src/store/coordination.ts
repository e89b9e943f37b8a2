/**
 * The port of what those who work on one store must agree on: whose turn it is to change a thing, and what was removed,
 * in which order against the requests under way. In memory for one process; for several it lies outside them, and may
 * be out of reach: then nothing is changed, and what is here can still be read (law 10).
 */
import { StoreError } from './blob-store.ts'
import { createKeyedMutex, type KeyedMutex } from './keyed-mutex.ts'
import type { Mark } from './repository-index.ts'
import { createTombstones, type TombstoneOptions } from './tombstones.ts'

/** The others on this store cannot be told of a change, so it was not made. Nothing is wrong with what is here. */
export class CoordinationUnavailableError extends StoreError {
  override readonly name = 'CoordinationUnavailableError'

  constructor(message: string, options: { cause?: unknown } = {}) {
    super('coordination', message, options)
  }
}

/**
 * `run` rejects with `CoordinationUnavailableError` when no turn can be had; work that has begun is never interrupted. A
 * turn orders what is done to the disk, no more: a process that is paused in its own may find that others went on without
 * it, so that whatever puts something there asks what was removed before, and again afterwards (`mayStay`).
 */
export interface Coordination extends KeyedMutex {
  /** Whether other processes change the same store: what was read from it a moment ago may have changed. */
  readonly shared: boolean
  /** Never later than now: at worst a removal that is seen already counts as seen after it, which costs a question. */
  mark(): Mark
  /**
   * Records removals as seen now, or as part of one that was recorded before. Rejects with
   * `CoordinationUnavailableError`: they may not be recorded.
   */
  bury(keys: readonly string[], removal?: Mark): Promise<Mark>
  /**
   * Whether any of the keys was removed since the mark, or that is no longer known. Rejects with
   * `CoordinationUnavailableError`.
   */
  overrules(mark: Mark, ...keys: readonly string[]): Promise<boolean>
  /** Only what needs no question: true is certain, and false means nothing where others change the store. */
  surelyOverrules(mark: Mark, ...keys: readonly string[]): boolean
  /** Something was removed and could not be recorded: every mark counts as overruled, from the next contact on. */
  overruleAll(): void
  /** Rejects with `CoordinationUnavailableError` when nothing could be recorded now. */
  reach(): Promise<void>
}

/** A removal that is being recorded while its turn is waited for: how that ends is told there, or nobody asks. */
export function begun<T>(recording: Promise<T>): Promise<T> {
  recording.catch(() => undefined)
  return recording
}

/**
 * Whether what was just put there may stay: nothing that overrules it was recorded meanwhile, and whatever is recorded
 * from now on is removed after it. Otherwise `undo` has taken it back, and where that cannot be known, `inDoubt` (default
 * `undo`). Rejects with `CoordinationUnavailableError`.
 */
export async function mayStay(
  coordination: Coordination,
  mark: Mark,
  keys: readonly string[],
  undo: () => Promise<void>,
  inDoubt: () => Promise<void> = undo,
): Promise<boolean> {
  // Turns are never lost within a process: what is removed meanwhile waits for its own.
  if (!coordination.shared) return true
  let isOverruled: boolean
  try {
    isOverruled = await coordination.overrules(mark, ...keys)
  } catch (error) {
    await inDoubt()
    throw error
  }
  if (isOverruled) await undo()
  return !isOverruled
}

/** For a store that no other process changes. `bury` has taken effect when it returns. */
export function createLocalCoordination(options: TombstoneOptions = {}): Coordination {
  const mutex = createKeyedMutex()
  const tombstones = createTombstones(options)
  return {
    shared: false,
    run: mutex.run,
    idle: mutex.idle,
    mark: tombstones.mark,
    bury: async (keys, removal) => {
      let recorded = removal
      for (const key of keys) recorded = tombstones.bury(key, recorded)
      return recorded ?? tombstones.mark()
    },
    overrules: async (mark, ...keys) => tombstones.overrules(mark, ...keys),
    surelyOverrules: tombstones.overrules,
    overruleAll: () => undefined,
    reach: async () => undefined,
  }
}
