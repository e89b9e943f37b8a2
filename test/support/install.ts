/** Vitest's global set-up: every program the tests drive is there, or the run fails with its name. */
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'

const SCRIPT = join(import.meta.dirname, '../../scripts/install-programs')

/** Installs what is missing of the programs named (default: all of them); throws with the script's words. */
export async function installPrograms(programs: readonly string[] = []): Promise<void> {
  try {
    await promisify(execFile)(SCRIPT, programs, { maxBuffer: 64 * 1024 * 1024 })
  } catch (cause) {
    const words = cause instanceof Error && 'stderr' in cause ? String(cause.stderr).trim() : String(cause)
    throw new Error(words, { cause })
  }
}

export async function setup(): Promise<void> {
  await installPrograms()
}
