/** kill -9 in the middle of an adoption. */
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { adopt } from '../../replicator/adopt.ts'
import { createStorePaths } from '../../src/store/paths.ts'
import { storeFixture } from '../store/store-fixture.ts'
import { allBlobs, buildImage } from '../support/images.ts'
import { startProgram } from '../support/process.ts'
import { tempFolder } from '../support/temp.ts'
import { until } from '../support/wait.ts'
import { soundDigests } from './adopt-scene.ts'

describe('an adoption that is killed', () => {
  it('has published nothing half, and ends when it is begun again', async () => {
    await using folder = await tempFolder('adopt')
    const root = join('/dev/shm', `adopt-kill-${process.pid}`) // Copies take longer than links.
    try {
      const image = await buildImage({ layers: Array.from({ length: 24 }, () => 3_000_000), gzip: false })
      for (const blob of allBlobs(image)) {
        const path = createStorePaths(root).blob(blob.digest)
        await mkdir(dirname(path), { recursive: true })
        await writeFile(path, blob.read())
      }
      let published = 0
      for (const pauseMs of [5, 15, 40, 80, 160, 320]) {
        if (published > 0 && pauseMs > 40) break // A busy machine may not have come so far yet.
        const said: string[] = []
        await using child = await startProgram(
          process.execPath,
          [join(import.meta.dirname, 'adopting-process.ts'), folder.path, root],
          { onLine: (line) => said.push(line) },
        )
        await until(() => said.length > 0 || child.exit !== undefined, { what: 'the adoption to begin' })
        await delay(pauseMs)
        await child.kill()
        expect(said, child.logs()).not.toEqual([])
        await using fixture = await storeFixture({}, folder.path)
        published = (await soundDigests(fixture)).length
      }
      expect(published).toBeGreaterThan(0)

      await using fixture = await storeFixture({}, folder.path)
      const report = await adopt(root, fixture.store)

      expect(report.here.blobs).toBe(published)
      expect(report.copied, 'the kills came too late').toBeGreaterThan(0)
      expect(new Set(await soundDigests(fixture))).toEqual(
        new Set(allBlobs(image).map(({ digest }) => digest)),
      )
    } finally {
      await rm(root, { recursive: true, force: true })
    }
  })
})
