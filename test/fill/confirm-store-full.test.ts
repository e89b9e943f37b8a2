import { expect, it } from 'vitest'
import { createStandings } from '../../proxy/standing.ts'
import { createConfirm } from '../../src/fill/confirm.ts'
import { StoreError } from '../../src/store/blob-store.ts'
import { UpstreamError } from '../../src/upstream/errors.ts'
import { nameOf, putBlob, storeFixture } from '../store/store-fixture.ts'

it('does not serve what the primary no longer has because its removal cannot be written down', async () => {
  await using fixture = await storeFixture()
  const { blobs, index } = fixture.store
  const name = nameOf('team/app')
  const digest = await putBlob(fixture.store, 'content')
  await index.putLink(name, 'layer', digest, index.mark())
  const full = { ...index, hideLink: () => Promise.reject(new StoreError('full', 'no space left')) }
  const absent = () => Promise.reject(new UpstreamError('absent', 'not there', { status: 404 }))
  const upstream = { confirmBlob: absent, confirmManifest: absent } as never
  const confirm = createConfirm({ upstream, index: full, blobs })
  const standings = createStandings({
    index: full,
    confirm,
    primaryIsAway: () => false,
    checkMs: 1000,
    recheckMs: 0,
  })
  const access = { credential: { kind: 'site' } as const, mayWrite: false, onlyPrimary: false }

  const settled = standings.settle(name, 'layer', digest, await index.link(name, 'layer', digest), access)
  await expect(settled).rejects.toMatchObject({ kind: 'absent' })
})
