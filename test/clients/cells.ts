/** From what was done to what a table says of it. */

/** The columns of the table of clients. */
export const CLIENT_OPERATIONS = [
  'login',
  'push',
  'by tag',
  'by digest',
  'index',
  'copy',
  'delete',
  'referrers',
  'tags',
  'push, primary stopped',
] as const
/** The columns of the table of those that sign. */
export const SIGNER_OPERATIONS = [
  'login',
  'sign',
  'verify',
  'other key',
  'changed image',
  'copy',
  'delete',
  'sign, primary stopped',
] as const

export type Operation = (typeof CLIENT_OPERATIONS | typeof SIGNER_OPERATIONS)[number]

/** `direct` is at the primary, for comparison; all others through the secondary. */
export type Phase = 'direct' | 'through' | 'cold' | 'warm' | 'stopped'

/** One thing that a client did or failed to do. */
export interface Step {
  readonly client: string
  readonly operation: Operation
  readonly phase: Phase
  readonly ok: boolean
  /** What was wrong; else what it cost, or what the client said of a push that had to fail. */
  readonly words: string
  readonly tookMs: number
}

/** `as direct`: the client cannot do it at the primary by itself either. */
export type Verdict = 'ok' | 'n/a' | 'failed' | 'as direct'

export interface Cell {
  readonly verdict: Verdict
  /** The phases that failed. */
  readonly phases: readonly Phase[]
}

export function cellOf(steps: readonly Step[], client: string, operation: Operation): Cell {
  const own = steps.filter((step) => step.client === client && step.operation === operation)
  if (own.length === 0) return { verdict: 'n/a', phases: [] }
  const phases = own.filter(({ ok, phase }) => !ok && phase !== 'direct').map(({ phase }) => phase)
  if (own.some(({ ok, phase }) => !ok && phase === 'direct')) return { verdict: 'as direct', phases }
  return { verdict: phases.length > 0 ? 'failed' : 'ok', phases }
}

/** Clients that can do something at the primary that they cannot do through the secondary. */
export function anyFailed(steps: readonly Step[]): boolean {
  return steps.some(({ client, operation }) => cellOf(steps, client, operation).verdict === 'failed')
}

export interface Row {
  readonly client: string
  readonly version: string
}

/** Rows of columns, the first of them the head. */
export function rowsOf(
  clients: readonly Row[],
  operations: readonly Operation[],
  steps: readonly Step[],
): string[][] {
  const head = ['client', 'version', ...operations]
  return [
    head,
    ...clients.map(({ client, version }) => [
      client,
      version,
      ...operations.map((operation) => textOf(cellOf(steps, client, operation))),
    ]),
  ]
}

function textOf({ verdict, phases }: Cell): string {
  if (verdict === 'as direct') return 'failed directly too'
  return phases.length === 0 ? verdict : `${verdict}: ${phases.join(', ')}`
}

export function asText(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)))
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

export function asMarkdown([head = [], ...rows]: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')
}
