/** Images of the factory are what clients take for images, whatever their size. */

import { gunzipSync } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../../src/oci/digest.ts'
import { manifestMediaType, manifestSubject } from '../../src/oci/manifest.ts'
import { contentBytes, randomContent } from './content.ts'
import {
  allBlobs,
  allManifests,
  buildArtifact,
  buildImage,
  buildIndex,
  buildMultiArch,
  cosignTag,
} from './images.ts'
import { runProgram } from './process.ts'
import { tempFolder } from './temp.ts'

describe('images', () => {
  it.each([
    { format: 'oci', gzip: true },
    { format: 'oci', gzip: false },
    { format: 'docker', gzip: true },
  ] as const)('has layers that tar unpacks and digests that hold ($format, gzip $gzip)', async (options) => {
    const image = await buildImage({ ...options, layers: [1000, 70_000], seed: 'unpack' })
    const [config, ...layers] = image.blobs
    await using folder = await tempFolder('layers')

    const diffIds: string[] = []
    for (const [index, layer] of layers.entries()) {
      const bytes = await contentBytes(layer)
      const file = await folder.write(`layer-${index}`, bytes)
      const { stdout } = await runProgram('tar', ['-tvf', file])
      expect(stdout).toMatch(index === 0 ? / 1000 .*layer-unpack\.0/ : / 70000 .*layer-unpack\.1/)
      expect([digestOf(bytes), bytes.length]).toEqual([layer.digest, layer.sizeBytes])
      diffIds.push(digestOf(options.gzip ? gunzipSync(bytes) : bytes))
    }

    expect(config && JSON.parse((await contentBytes(config)).toString('utf8'))).toMatchObject({
      rootfs: { diff_ids: diffIds },
    })
    expect(manifestMediaType(image.bytes)).toBe(image.mediaType)
  })

  it('makes the same bytes from the same seed and others from another', async () => {
    const [one, same, other] = await Promise.all([
      buildImage({ seed: 1 }),
      buildImage({ seed: 1 }),
      buildImage({ seed: 2 }),
    ])

    expect(one.digest).toBe(same.digest)
    const digests = new Set(one.blobs.map(({ digest }) => digest))
    expect(other.blobs.some(({ digest }) => digests.has(digest))).toBe(false)
  })

  it('nests indexes, leaves media types out, and lists every blob and manifest once, children first', async () => {
    const multi = await buildMultiArch({ seed: 'nested' })
    const outer = buildIndex([multi, multi], { declareMediaType: false })

    expect(outer.bytes.toString('utf8')).not.toContain('"schemaVersion":2,"mediaType"')
    expect(manifestMediaType(outer.bytes)).toBe('application/vnd.oci.image.index.v1+json')
    expect(allBlobs(outer)).toHaveLength(6)
    expect(allManifests(outer).at(-1)).toBe(outer)
  })

  it('names the subject of an artifact', async () => {
    const image = await buildImage()

    expect(manifestSubject(buildArtifact({ subject: image }).bytes)).toBe(image.digest)
    expect(cosignTag(image)).toMatch(/^sha256-[0-9a-f]{64}\.sig$/)
  })

  it('reads a big blob again and again without holding it', async () => {
    const before = process.memoryUsage().rss
    const content = await randomContent(512 * 1024 * 1024)
    let bytes = 0
    for await (const chunk of content.read()) bytes += chunk.length

    expect(bytes).toBe(content.sizeBytes)
    expect(process.memoryUsage().rss - before).toBeLessThan(256 * 1024 * 1024)
  })
})
