/**
 * The official suite of the OCI distribution specification 1.1.1, at the commit that `official/go.mod` names. The newer
 * suite that is in development there (configured by `OCI_API_*` and `OCI_DATA_*`) is no Go module that could be had.
 */
import { join } from 'node:path'
import { buildGoProgram } from '../support/go-program.ts'
import type { CaseResult } from './junit.ts'
import type { ReadOnlyContent } from './read-only.ts'
import { OTHER_REPOSITORY, REPOSITORY, runSuiteProgram, type Suite } from './run-suite.ts'

const MODULE = join(import.meta.dirname, 'official')
const PACKAGE = 'github.com/opencontainers/distribution-spec/conformance'

/** Ginkgo counts the writer of the HTML report among the cases. */
const NO_CASE = 'html custom reporter'

/** Its nonexistent manifest is a tag that cannot be: that is absent whatever the primary says. */
export function failsInOutage({ name, message }: CaseResult): boolean {
  return name.includes('nonexistent blob') && /^Expected\s+<int>: 503\s/.test(message)
}

/** Leaves `report.html` beside `junit.xml`. Throws when it cannot be built. */
export async function createOfficialSuite(): Promise<Suite> {
  const command = await buildGoProgram(MODULE, PACKAGE, ['test', '-c'])
  return {
    label: 'official v1.1.1 (583e014d1541)',
    folder: 'official',
    run: async ({ url, folder, again, content }) => {
      const env = {
        OCI_ROOT_URL: url,
        OCI_NAMESPACE: REPOSITORY,
        OCI_CROSSMOUNT_NAMESPACE: OTHER_REPOSITORY,
        OCI_REPORT_DIR: folder,
        OCI_TEST_PULL: '1',
        OCI_TEST_CONTENT_DISCOVERY: '1',
        ...(content ? contentSettings(content) : writingSettings(again === true)),
      }
      const results = await runSuiteProgram({ command, args: [], env, folder })
      return results.filter(({ name }) => name !== NO_CASE)
    },
    failsInOutage,
  }
}

/**
 * A registry may look by itself for a blob to mount, or not, and there is a case for either: the first round has the one,
 * the second the other.
 */
function writingSettings(again: boolean): Record<string, string> {
  return {
    OCI_TEST_PUSH: '1',
    OCI_TEST_CONTENT_MANAGEMENT: '1',
    OCI_AUTOMATIC_CROSSMOUNT: again ? '0' : '1',
  }
}

/** The suite knows one image: a tag, the manifest that it names, and a blob. Throws when there is none. */
function contentSettings({ manifests, blobs }: ReadOnlyContent): Record<string, string> {
  const tagged = manifests.find(({ tag }) => tag === 'image')
  const [blob] = blobs
  if (!tagged || blob === undefined) throw new Error('no image was pushed for the read-only run')
  return {
    OCI_TAG_NAME: 'image',
    OCI_MANIFEST_DIGEST: tagged.digest,
    OCI_BLOB_DIGEST: blob,
    OCI_TAG_LIST: manifests.flatMap(({ tag }) => tag ?? []).join(','),
  }
}
