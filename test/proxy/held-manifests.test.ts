import { afterEach, expect, it, vi } from 'vitest'
import { createHeldManifests } from '../../proxy/held-manifests.ts'
import { digestOf } from '../../src/oci/digest.ts'
import { MEDIA_TYPES } from '../../src/oci/media-types.ts'
import { storeFixture } from '../store/store-fixture.ts'

afterEach(() => {
  vi.restoreAllMocks()
})

it.each([
  [
    'a manifest too large for the memory',
    `{"schemaVersion":2,"layers":${'['.repeat(1_000_000)}${']'.repeat(1_000_000)}}`,
    MEDIA_TYPES.ociManifest,
  ],
  ['what is no manifest', '['.repeat(1_000_000), undefined],
])('looks once at what it says, however often it is read: %s', async (_, text, mediaType) => {
  await using fixture = await storeFixture()
  const { blobs } = fixture.store
  const bytes = Buffer.from(text)
  const digest = digestOf(bytes)
  await blobs.write(digest, bytes)
  const held = createHeldManifests(blobs)
  const parse = vi.spyOn(JSON, 'parse')

  for (let turn = 0; turn < 5; turn++) {
    const manifest = await held.get(digest)
    expect(manifest?.mediaType).toBe(mediaType)
    if (manifest) expect(manifest.bytes.equals(bytes)).toBe(true)
  }

  expect(parse).toHaveBeenCalledTimes(1)
})
