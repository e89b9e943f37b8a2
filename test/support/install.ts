/**
 * Vitest's global set-up: every program the tests drive is there, or the run fails with its name; and node need not
 * compile the sources anew for each process that a test starts.
 */
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

/** Halves the CPU of a site's start. `npm ci` empties it. */
const COMPILE_CACHE_FOLDER = join(import.meta.dirname, '../../node_modules/.cache/node-compile')

export async function setup(): Promise<void> {
  process.env['NODE_COMPILE_CACHE'] ??= COMPILE_CACHE_FOLDER
  await installPrograms()
}
