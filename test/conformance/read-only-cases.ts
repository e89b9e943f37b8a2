/** What a registry that takes no pushes must still do with the content it holds. */
import { createDigester, parseDigest } from '../../src/oci/digest.ts'
import { FULL_ACCEPT } from '../../src/oci/media-types.ts'
import { type Cases, expectEqual, expectStatus } from './cases.ts'
import { referrersOf, tagsOf } from './sample-cycle.ts'

/** Content that is there; digests but for the tags. */
export interface ReadOnlyData {
  readonly tags: readonly string[]
  readonly manifests: readonly string[]
  readonly blobs: readonly string[]
  /** Subjects that something refers to. */
  readonly referrers: readonly string[]
}

const ACCEPT = { accept: FULL_ACCEPT }

export async function checkReadOnly({ check }: Cases, repository: string, data: ReadOnlyData): Promise<void> {
  const path = `/v2/${repository}`
  await check('read-only', 'the tag list has every tag', async ({ send }) =>
    expectEqual('tags', [...(await tagsOf(send, path))].sort(), [...data.tags].sort()),
  )
  await check('read-only', 'the first tags of the list', async ({ send }) =>
    expectEqual('tags', await tagsOf(send, path, '?n=1'), [...data.tags].sort().slice(0, 1)),
  )
  for (const method of ['HEAD', 'GET']) {
    for (const reference of [...data.tags, ...data.manifests]) {
      await check('read-only', `${method} manifest ${reference}`, async ({ send }) => {
        const answer = expectStatus(
          await send(method, `${path}/manifests/${reference}`, { headers: ACCEPT }),
          200,
        )
        const digest = answer.headers['docker-content-digest']
        if (data.manifests.includes(reference)) expectEqual('Docker-Content-Digest', digest, reference)
        if (method === 'GET') expectDigest(answer.body, digest ?? '')
      })
    }
    for (const digest of data.blobs) {
      await check('read-only', `${method} blob ${digest}`, async ({ send }) => {
        const answer = expectStatus(await send(method, `${path}/blobs/${digest}`), 200)
        expectEqual('Docker-Content-Digest', answer.headers['docker-content-digest'], digest)
        if (method === 'GET') expectDigest(answer.body, digest)
      })
    }
  }
  for (const digest of data.blobs) {
    await check('read-only', `part of blob ${digest}`, async ({ send }) => {
      const answer = expectStatus(
        await send('GET', `${path}/blobs/${digest}`, { headers: { range: 'bytes=0-0' } }),
        206,
      )
      expectEqual('bytes', answer.body.length, 1)
    })
  }
  for (const subject of data.referrers) {
    await check('read-only', `referrers of ${subject}`, async ({ send }) => {
      const found = await referrersOf(send, path, subject)
      if (found.length === 0) throw new Error('nothing refers to it')
    })
  }
}

function expectDigest(bytes: Buffer, wanted: string): void {
  const digest = parseDigest(wanted)
  if (!digest) throw new Error(`${wanted || 'nothing'} is no digest`)
  const digester = createDigester(digest.startsWith('sha512:') ? 'sha512' : 'sha256')
  digester.update(bytes)
  expectEqual('digest of the body', digester.digest(), digest)
}
