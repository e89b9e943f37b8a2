/** The images that were pushed lately, by repository: what digests are asked for, and what a tag is put back to. */
import type { Image } from '../support/images.ts'

export interface Catalogue {
  add(repository: string, image: Image): void
  /** 0: the newest; towards 1: the oldest that is remembered. Undefined: there is none. */
  pick(repository: string, pick: number): Image | undefined
  /** The number of the image in the order of pushes: `image 12`; the beginning of an unknown digest. */
  nameOf(digest: string | undefined): string
  /** Every one that is remembered. */
  all(): (readonly [repository: string, image: Image])[]
}

const REMEMBERED = 30
const NAMES = 5_000

export function createCatalogue(): Catalogue {
  const images = new Map<string, Image[]>()
  const names = new Map<string, string>()
  let count = 0
  return {
    add(repository, image) {
      const rest = (images.get(repository) ?? []).filter(({ digest }) => digest !== image.digest)
      images.set(repository, [image, ...rest].slice(0, REMEMBERED))
      if (names.has(image.digest)) return
      names.set(image.digest, `image ${++count}`)
      for (const old of [...names.keys()].slice(0, -NAMES)) names.delete(old)
    },
    pick(repository, pick) {
      const known = images.get(repository) ?? []
      return known[Math.floor(pick * known.length)]
    },
    nameOf: (digest) => (digest === undefined ? '' : (names.get(digest) ?? digest.slice(0, 19))),
    all: () =>
      [...images].flatMap(([repository, known]) => known.map((image) => [repository, image] as const)),
  }
}
