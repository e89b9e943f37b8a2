/** Starts workers in processes of their own. */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { type Program, startProgram } from '../support/process.ts'

export interface WorkerProcess extends Program {
  /** `begun <key>` and `aborted <key>: <why>`, as they come. */
  readonly lines: readonly string[]
}

export async function startWorkerProcess(
  url: string,
  name: string,
  lockDurationMs: number,
): Promise<WorkerProcess> {
  const lines: string[] = []
  const script = join(import.meta.dirname, 'worker-process.ts')
  const program = await startProgram(process.execPath, [script, url, name, String(lockDurationMs)], {
    onLine: (line) => lines.push(line),
  })
  return Object.assign(program, { lines })
}

/** So that tests share a server and nothing else. */
export function nameOfQueue(): string {
  return `test-${randomUUID()}`
}
