/** The demo's table: one line for each step, as it happens. */

export interface Step {
  readonly asked: string
  /** Where it was answered from, by the site's own access log. */
  readonly answeredFrom: string
  readonly tookMs: number
  /** What the site asked the primary meanwhile, by its metrics. */
  readonly requests: number
  /** Over the link to the primary, both ways. */
  readonly linkBytes: number
  readonly outcome: string
}

const WIDTHS = [51, 24, 8, 17] as const

export function printHead(print: (line: string) => void): void {
  print(row(['what was asked', 'answered from', 'took', 'asked the primary', 'outcome']))
  print('─'.repeat(WIDTHS.reduce((sum, width) => sum + width + 2, 0) + 30))
}

export function printStep(print: (line: string) => void, step: Step): void {
  const took = `${Math.round(step.tookMs)} ms`
  const primary = `${step.requests} ×, ${formatBytes(step.linkBytes)}`
  print(row([step.asked, step.answeredFrom, took, primary, step.outcome]))
}

function row(cells: readonly string[]): string {
  return cells.map((cell, column) => cell.padEnd(WIDTHS[column] ?? 0)).join('  ')
}

export function formatBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`
  if (bytes < 1024 * 1024) return `${(bytes / 1024).toFixed(1)} KiB`
  return `${(bytes / 1024 / 1024).toFixed(1)} MiB`
}
