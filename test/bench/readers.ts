/** Cheap clients: bodies read and thrown away by a process of their own (`reader.ts`). */
import { join } from 'node:path'
import { runProgram } from '../support/process.ts'
import type { ConnectionReading, Plan, PlannedRequest, Reading } from './reader.ts'

export type { ConnectionReading, Plan, PlannedRequest } from './reader.ts'

const READER = join(import.meta.dirname, 'reader.ts')
const DEADLINE_MS = 300_000

/** All plans at once, a connection each; throws when one of them got anything but its bodies. */
export async function read(plans: readonly Plan[]): Promise<ConnectionReading[]> {
  const { stdout } = await runProgram(process.execPath, [READER], {
    input: JSON.stringify(plans),
    deadlineMs: DEADLINE_MS,
  })
  const connections = JSON.parse(stdout) as ConnectionReading[]
  const failures = [...new Set(connections.flatMap(({ failure }) => failure ?? []))]
  if (failures.length > 0) throw new Error(`a client did not get its bytes: ${failures.join('\n')}`)
  return connections
}

/** On one warm connection: `requests` in order, of which the last is read off. */
export async function readLast(url: string, requests: readonly PlannedRequest[]): Promise<Reading> {
  const [connection] = await read([{ url, requests }])
  const reading = connection?.readings.at(-1)
  if (!reading) throw new Error('nothing was read')
  return reading
}

/** Bytes per second of `connections` that ask for the same again and again. */
export async function throughput(
  url: string,
  request: PlannedRequest,
  options: { readonly connections: number; readonly forMs: number },
): Promise<number> {
  const plan: Plan = { url, requests: [request], repeatForMs: options.forMs }
  const connections = await read(Array.from({ length: options.connections }, () => plan))
  const bytes = connections.reduce((sum, { bodyBytes }) => sum + bodyBytes, 0)
  return (bytes / options.forMs) * 1000
}
