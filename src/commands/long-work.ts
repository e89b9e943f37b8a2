/** Follows an answer that comes in lines to its end: progress to the terminal, items to the caller, then the totals. */
import type { Totals } from '../status/replication-control.ts'
import type { StreamLine } from '../status/streamed.ts'
import { formatBytes, formatDuration, formatNumber, inWords } from '../status/words.ts'
import { CommandFailed, type CommandOutput } from './command-output.ts'
import { createProgressDisplay } from './progress.ts'

export interface FollowOptions<Item> {
  readonly output: CommandOutput
  readonly onItem?: ((item: Item) => void) | undefined
}

/** The totals. Throws `CommandFailed` for an answer that ends without any. `Item`: what the API of this path sends. */
export async function follow<Item extends object = never>(
  lines: AsyncIterable<StreamLine>,
  { output, onItem }: FollowOptions<Item>,
): Promise<Totals> {
  const display = createProgressDisplay(output)
  try {
    for await (const line of lines) {
      if ('progress' in line) display.show(line.progress)
      else display.clear()
      if ('item' in line) onItem?.(line.item as Item)
      if ('error' in line) throw new CommandFailed(line.error, 1)
      if ('result' in line) return line.result
    }
  } finally {
    display.clear()
  }
  throw new CommandFailed('the answer was cut: the running process has ended, or was restarted', 1)
}

/** `removed blobs: 1,234`, a line each; what is named `…bytes` as sizes, `…Ms` as durations. */
export function totalsText(totals: Totals): string {
  return Object.entries(totals)
    .map(([name, value]) => `${inWords(name.replace(/Ms$/, ''))}:${valueText(name, value)}\n`)
    .join('')
}

/** With the white space before it. */
function valueText(name: string, value: unknown): string {
  if (!Array.isArray(value)) return ` ${singleText(name, value)}`
  return value.length === 0 ? ' none' : value.map((entry) => `\n  ${singleText(name, entry)}`).join('')
}

function singleText(name: string, value: unknown): string {
  if (typeof value === 'object' && value !== null) {
    return Object.entries(value)
      .map(([member, inner]) => `${inWords(member)}${valueText(member, inner)}`)
      .join(', ')
  }
  if (typeof value === 'boolean') return value ? 'yes' : 'no'
  if (typeof value !== 'number') return String(value ?? 'unknown')
  if (/Ms$/.test(name)) return formatDuration(value)
  return /bytes/i.test(name) ? formatBytes(value) : formatNumber(value)
}
