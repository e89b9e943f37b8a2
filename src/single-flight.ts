/** Concurrent callers of one key share one promise: every waiter sees its failure, and the next caller starts afresh. */
export function singleFlight<K, V>(): (key: K, start: () => Promise<V>) => Promise<V> {
  const pending = new Map<K, Promise<V>>()
  return (key, start) => {
    const running = pending.get(key)
    if (running !== undefined) return running
    const flight = start().finally(() => {
      if (pending.get(key) === flight) pending.delete(key)
    })
    pending.set(key, flight)
    return flight
  }
}
