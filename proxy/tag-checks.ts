/**
 * Who may share a question about a tag (law 2): an asker joins only a check of the same key that has not been sent yet,
 * because the answer of one under way may be older than the write the asker already knows of. So per key at most one
 * check is under way and one waits behind it, however many clients pull the tag at once.
 */
interface Line<V> {
  running: Promise<V>
  waiting: Promise<V> | undefined
}

export function createTagChecks<V>(): (key: string, send: () => Promise<V>) => Promise<V> {
  const lines = new Map<string, Line<V>>()

  function run(key: string, line: Line<V>, send: () => Promise<V>): Promise<V> {
    line.waiting = undefined
    const running = send().finally(() => {
      if (line.running === running && line.waiting === undefined) lines.delete(key)
    })
    line.running = running
    return running
  }

  return (key, send) => {
    const line = lines.get(key)
    if (!line) {
      const first: Line<V> = { running: Promise.race([]), waiting: undefined }
      lines.set(key, first)
      return run(key, first, send)
    }
    line.waiting ??= line.running.then(
      () => run(key, line, send),
      () => run(key, line, send),
    )
    return line.waiting
  }
}
