/** What a client holds is taken for the image only when it is the image. */
import { describe, expect, it } from 'vitest'
import { buildImage, buildMultiArch } from '../support/images.ts'
import { expectHeld } from './verify.ts'

describe('a pull is refused', () => {
  it('when its manifest is another', async () => {
    const [image, other] = [await buildImage({ seed: 'a' }), await buildImage({ seed: 'b' })]
    const held = { digest: other.digest, files: [], unpacked: ['sha256:00'] }
    await expect(expectHeld(held, image, 'whole')).rejects.toThrow(`pushed was ${image.digest}`)
  })

  it('when its unpacked layers are others', async () => {
    const image = await buildImage()
    const held = { digest: image.digest, files: [], unpacked: ['sha256:00'] }
    await expect(expectHeld(held, image, 'own platform')).rejects.toThrow(/unpacked sha256:00/)
  })

  it('when a file is missing, or is none of the image', async () => {
    const image = await buildImage()
    const files = [image.digest, ...image.blobs.map(({ digest }) => digest)]
    const held = (some: readonly string[]) => ({ digest: image.digest, files: some, unpacked: [] })
    await expectHeld(held(files), image, 'whole')
    await expect(expectHeld(held(files.slice(0, -1)), image, 'whole')).rejects.toThrow(/lacks sha256:/)
    await expect(expectHeld(held([...files, 'sha256:00']), image, 'whole')).rejects.toThrow(/never pushed/)
    await expect(expectHeld(held([]), image, 'whole')).rejects.toThrow(/lacks/)
  })

  it('when a client that copies all of an index has one platform of it', async () => {
    const index = await buildMultiArch()
    const own = index.children[0]
    if (!own) throw new Error('an index has children')
    const files = [index.digest, own.digest, ...own.blobs.map(({ digest }) => digest)]
    const held = { digest: index.digest, files, unpacked: [] }
    await expectHeld(held, index, 'own platform')
    await expect(expectHeld(held, index, 'whole')).rejects.toThrow(/lacks/)
  })
})
