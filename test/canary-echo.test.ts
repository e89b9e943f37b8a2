import { describe, expect, it } from 'vitest'
import type { Notice } from '../replicator/notification.ts'
import { createCanaryImage } from '../replicator/relay/canary-image.ts'
import { createCanaryEcho } from '../src/canary-echo.ts'
import { parseDigest } from '../src/oci/digest.ts'
import { parseRepositoryName, parseTag } from '../src/oci/reference.ts'

const nameOf = (text: string) => {
  const name = parseRepositoryName(text)
  if (!name) throw new Error(`${text} is no repository`)
  return name
}
const REPOSITORY = nameOf('geo-registry/canary')
let ids = 0

function notice(change: Partial<Notice> = {}): Notice {
  return {
    id: String(++ids),
    action: 'push',
    repository: REPOSITORY,
    tag: parseTag('canary'),
    digest: createCanaryImage().digest,
    renamedTo: undefined,
    ...change,
  }
}
const passes = (echo: ReturnType<typeof createCanaryEcho>, change?: Partial<Notice>) =>
  echo.without([notice(change)]).length === 1

describe('canaries that are pushed', () => {
  it('are told of once, and everything else always', () => {
    const echo = createCanaryEcho(REPOSITORY)

    expect([passes(echo), passes(echo), passes(echo)]).toEqual([true, false, false])
    const other = { repository: nameOf('team/app') }
    expect([passes(echo, other), passes(echo, other), passes(echo)]).toEqual([true, true, false])
  })

  it.each<[string, Partial<Notice>]>([
    ['another image under its tag', { digest: parseDigest(`sha256:${'a'.repeat(64)}`) }],
    ['another tag', { tag: parseTag('other') }],
    ['a deletion of the tag', { action: 'delete', digest: undefined }],
    ['a deletion of the image', { action: 'delete', tag: undefined }],
    ['a deletion of the repository', { action: 'delete', tag: undefined, digest: undefined }],
    ['a rename to it', { action: 'rename', repository: nameOf('a'), renamedTo: REPOSITORY }],
    ['a rename of what it lies under', { action: 'rename', repository: nameOf('geo-registry') }],
  ])('are told of again after %s', (_, change) => {
    const echo = createCanaryEcho(REPOSITORY)
    echo.without([notice(), notice()])

    expect([passes(echo, change), passes(echo), passes(echo)]).toEqual([true, true, false])
  })

  it('are told of again when the first could not be kept', () => {
    const echo = createCanaryEcho(REPOSITORY)
    echo.without([notice()])
    echo.forget()

    expect([passes(echo), passes(echo)]).toEqual([true, false])
  })
})
