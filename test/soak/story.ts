/** What happened, in order: the last lines for whoever must understand a failure, and counts of everything. */

export interface Story {
  /** One line, with its time. */
  say(line: string): void
  count(kind: 'operations' | 'answers' | 'faults', name: string): void
  /** The last lines, oldest first. */
  last(lines: number): string[]
  /** `3 cut, 1 kill`, the most frequent first. */
  counted(kind: 'operations' | 'answers' | 'faults'): string
  total(kind: 'operations' | 'answers' | 'faults'): number
}

const KEPT = 400

/** `now`: milliseconds since the start. */
export function createStory(now: () => number): Story {
  const lines: string[] = []
  const counts = {
    operations: new Map<string, number>(),
    answers: new Map<string, number>(),
    faults: new Map<string, number>(),
  }
  return {
    say(line) {
      lines.push(`${(now() / 1000).toFixed(3).padStart(9)} ${line}`)
      if (lines.length > KEPT) lines.shift()
    },
    count(kind, name) {
      counts[kind].set(name, (counts[kind].get(name) ?? 0) + 1)
    },
    last: (count) => lines.slice(-count),
    counted(kind) {
      const sorted = [...counts[kind]].toSorted(([, one], [, other]) => other - one)
      return sorted.map(([name, count]) => `${count} ${name}`).join(', ')
    },
    total: (kind) => [...counts[kind].values()].reduce((sum, count) => sum + count, 0),
  }
}
