/** A conformance suite as a child process, configured by its environment, and the report that it left. */
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ProgramError, runProgram } from '../support/process.ts'
import { type CaseResult, readJunit } from './junit.ts'

export const REPOSITORY = 'conformance/repo1'
const OWN_SUITE = join(import.meta.dirname, 'suite.ts')

export interface SuiteRun {
  /** The official suite's program; undefined: our own cases. */
  readonly suite: string | undefined
  /** The registry's origin. */
  readonly url: string
  /** Where the reports stay. */
  readonly folder: string
  /** What is added to the settings of every run. */
  readonly settings?: Readonly<Record<string, string>>
}

/** All kinds of content and all checks, but those that no released registry does. */
const SETTINGS: Readonly<Record<string, string>> = {
  OCI_VERSION: '1.1',
  OCI_TLS: 'disabled',
  OCI_REPO1: REPOSITORY,
  OCI_REPO2: 'conformance/repo2',
  OCI_API_BLOBS_DIGEST_HEADER: 'true',
  OCI_API_BLOBS_UPLOAD_CANCEL: 'true',
  OCI_API_MANIFESTS_DIGEST_HEADER: 'true',
  OCI_DATA_SPARSE: 'true',
}

/** Throws when the suite did not run: a registry that fails cases is a result. */
export async function runSuite({ suite, url, folder, settings }: SuiteRun): Promise<CaseResult[]> {
  await rm(folder, { recursive: true, force: true })
  await mkdir(folder, { recursive: true })
  const env = { ...SETTINGS, OCI_REGISTRY: new URL(url).host, OCI_RESULTS_DIR: folder, ...settings }
  const [command, args] = suite === undefined ? [process.execPath, [OWN_SUITE]] : [suite, []]
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
