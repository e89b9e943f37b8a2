/**
 * Our own cases after the OCI distribution specification 1.1, as a program that is configured and reports as the
 * specification's newer suite does (see `official.ts`), so that either can be run in the other's place. Read:
 * `OCI_REGISTRY`, `OCI_REPO1`, `OCI_REPO2`, `OCI_RESULTS_DIR`, `OCI_API_PUSH`, `OCI_API_REFERRER`,
 * `OCI_RO_DATA_{TAGS,MANIFESTS,BLOBS,REFERRERS}`; else every kind of content and every check is always on. Leaves
 * `junit.xml`.
 * Status 0: every case passed; 1: some did not; 2: it could not run.
 */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { checkBlobs } from './blob-cases.ts'
import { createCases } from './cases.ts'
import { writeJunit } from './junit.ts'
import { checkEmpty, checkMalformedDigests, checkMovedTags, checkPing, checkTagLists } from './name-cases.ts'
import { checkReadOnly } from './read-only-cases.ts'
import { checkSample } from './sample-cycle.ts'
import { allSamples } from './samples.ts'

async function main(): Promise<void> {
  const repository = needed('OCI_REPO1')
  const other = needed('OCI_REPO2')
  const resultsDir = needed('OCI_RESULTS_DIR')
  await using cases = createCases(`http://${needed('OCI_REGISTRY')}`)
  await checkPing(cases)
  if (process.env['OCI_API_PUSH'] === 'false') {
    await checkReadOnly(cases, repository, {
      tags: listed('OCI_RO_DATA_TAGS'),
      manifests: listed('OCI_RO_DATA_MANIFESTS'),
      blobs: listed('OCI_RO_DATA_BLOBS'),
      referrers: process.env['OCI_API_REFERRER'] === 'false' ? [] : listed('OCI_RO_DATA_REFERRERS'),
    })
  } else {
    await checkEmpty(cases, repository)
    for (const algorithm of ['sha256', 'sha512'] as const)
      await checkBlobs(cases, { repository, other, algorithm })
    for (const sample of allSamples()) await checkSample(cases, repository, sample)
    await checkMalformedDigests(cases, repository)
    await checkTagLists(cases, `${repository}/lists`)
    await checkMovedTags(cases, repository)
  }
  await mkdir(resultsDir, { recursive: true })
  await writeFile(
    join(resultsDir, 'junit.xml'),
    writeJunit('cases after the OCI specification', cases.results),
  )
  if (cases.results.some(({ status }) => status === 'failed')) process.exitCode = 1
}

function needed(name: string): string {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set`)
  return value
}

function listed(name: string): readonly string[] {
  return (process.env[name] ?? '').split(' ').filter((word) => word !== '')
}

try {
  await main()
} catch (error) {
  process.stderr.write(`conformance suite: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 2
}
