/**
 * Our own cases (`suite.ts`), or another program in their place that reads the same settings, as the specification's newer
 * suite does (see `official.ts`).
 */
import { join } from 'node:path'
import type { ReadOnlyContent } from './read-only.ts'
import { OTHER_REPOSITORY, REPOSITORY, runSuiteProgram, type Suite } from './run-suite.ts'

/** All kinds of content and all checks, but those that no released registry does. */
const SETTINGS: Readonly<Record<string, string>> = {
  OCI_VERSION: '1.1',
  OCI_TLS: 'disabled',
  OCI_REPO1: REPOSITORY,
  OCI_REPO2: OTHER_REPOSITORY,
  OCI_API_BLOBS_DIGEST_HEADER: 'true',
  OCI_API_BLOBS_UPLOAD_CANCEL: 'true',
  OCI_API_MANIFESTS_DIGEST_HEADER: 'true',
  OCI_DATA_SPARSE: 'true',
}

/** `program`: an executable; undefined: our own cases. */
export function createOwnSuite(program?: string): Suite {
  const command = program ?? process.execPath
  const args = program === undefined ? [join(import.meta.dirname, 'suite.ts')] : []
  return {
    label: program ?? 'our own cases',
    folder: program === undefined ? 'own' : 'given',
    run: async ({ url, folder, content }) => {
      const where = { OCI_REGISTRY: new URL(url).host, OCI_RESULTS_DIR: folder }
      const env = { ...SETTINGS, ...where, ...(content && contentSettings(content)) }
      return await runSuiteProgram({ command, args, env, folder })
    },
    failsInOutage: () => false,
  }
}

/** Referrers are left out: in an outage a site says 503, since it cannot know what else refers to a manifest. */
function contentSettings({ manifests, blobs, referrers }: ReadOnlyContent): Record<string, string> {
  return {
    OCI_API_PUSH: 'false',
    OCI_API_REFERRER: 'false',
    OCI_RO_DATA_TAGS: manifests.flatMap(({ tag }) => tag ?? []).join(' '),
    OCI_RO_DATA_MANIFESTS: manifests.map(({ digest }) => digest).join(' '),
    OCI_RO_DATA_BLOBS: blobs.join(' '),
    OCI_RO_DATA_REFERRERS: referrers.join(' '),
  }
}
