/** A conformance suite as a child process, configured by its environment, and the report that it left. */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ProgramError, runProgram } from '../support/process.ts'
import { type CaseResult, readJunit } from './junit.ts'
import type { ReadOnlyContent } from './read-only.ts'

export const REPOSITORY = 'conformance/repo1'
/** Blobs are mounted from one to the other. */
export const OTHER_REPOSITORY = 'conformance/repo2'

export interface SuiteRun {
  /** The registry's origin. */
  readonly url: string
  /** Where the reports stay; emptied first. */
  readonly folder: string
  /** A second run at the same registry, on what the first one left there. */
  readonly again?: boolean
  /** What is there; nothing is pushed then. */
  readonly content?: ReadOnlyContent
}

export interface Suite {
  /** What its result lines begin with. */
  readonly label: string
  /** The folder of its reports. */
  readonly folder: string
  /** Throws when the suite did not run: a registry that fails cases is a result. */
  run(run: SuiteRun): Promise<CaseResult[]>
  /**
   * Whether the case failed as it must with the primary stopped: it asks for what is nowhere, and a site that cannot ask
   * the primary says 503 (it does not know), never 404.
   */
  failsInOutage(result: CaseResult): boolean
}

export interface SuiteProgram {
  readonly command: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly folder: string
}

/** Runs a program that leaves `junit.xml` in `folder`. Throws when it broke off. */
export async function runSuiteProgram({ command, args, env, folder }: SuiteProgram): Promise<CaseResult[]> {
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  try {
    const { stdout, stderr } = await runProgram(command, args, { env, cwd: folder, deadlineMs: 600_000 })
    await writeFile(join(folder, 'output.txt'), stdout + stderr)
  } catch (error) {
    // Status 1 says that cases failed; a suite that broke off leaves no report, or says so with another status.
    if (!(error instanceof ProgramError) || error.exit?.code !== 1) throw error
    await writeFile(join(folder, 'output.txt'), error.message)
  }
  return readJunit(await readFile(join(folder, 'junit.xml'), 'utf8'))
}
