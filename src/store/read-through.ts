/**
 * A bounded memory over something slower. What was being read while it changed is answered, but not remembered: memory
 * never holds what the disk no longer says. Absence is not remembered.
 */
import { LRUCache } from 'lru-cache'

export interface ReadThrough<V extends object> {
  get(key: string, load: () => Promise<V | undefined>): Promise<V | undefined>
  /** From memory only. */
  peek(key: string): V | undefined
  /** To be called when the thing has changed to this. */
  set(key: string, value: V): void
  /** To be called when the thing has changed, or is gone. */
  delete(key: string): void
  deleteWhere(matches: (key: string) => boolean): void
}

/** At most `max` things; 0: remembers nothing, for what others change too. */
export function createReadThrough<V extends object>(max: number): ReadThrough<V> {
  if (max === 0) return forgetful()
  const cache = new LRUCache<string, V>({ max })
  /** The newest read under way of each key; a change takes it away. */
  const reads = new Map<string, object>()
  return {
    get: async (key, load) => {
      const known = cache.get(key)
      if (known) return known
      const read = {}
      reads.set(key, read)
      try {
        const loaded = await load()
        if (loaded && reads.get(key) === read) cache.set(key, loaded)
        return loaded
      } finally {
        if (reads.get(key) === read) reads.delete(key)
      }
    },
    peek: (key) => cache.get(key),
    set: (key, value) => {
      reads.delete(key)
      cache.set(key, value)
    },
    delete: (key) => {
      reads.delete(key)
      cache.delete(key)
    },
    deleteWhere: (matches) => {
      reads.clear()
      for (const key of cache.keys()) if (matches(key)) cache.delete(key)
    },
  }
}

function forgetful<V extends object>(): ReadThrough<V> {
  const nothing = () => undefined
  return { get: (_key, load) => load(), peek: nothing, set: nothing, delete: nothing, deleteWhere: nothing }
}
