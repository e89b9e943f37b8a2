import { describe, expect, it } from 'vitest'
import { parseRepositoryName } from '../../src/oci/reference.ts'
import { createModeOf, parsePathPattern } from '../../src/oci/repository-mode.ts'

const name = (text: string) => parseRepositoryName(text) ?? expect.unreachable(text)

describe('the mode of a repository', () => {
  it('is replicate where no rule matches', () => {
    expect(createModeOf([])(name('team/app'))).toBe('replicate')
  })

  it('is that of the first rule that matches', () => {
    const modeOf = createModeOf([
      { pattern: 'team/app', mode: 'replicate' },
      { pattern: 'team/**', mode: 'ondemand' },
      { pattern: '**', mode: 'deny' },
    ])
    expect(['team/app', 'team/other', 'else/app'].map((text) => modeOf(name(text)))).toEqual([
      'replicate',
      'ondemand',
      'deny',
    ])
  })

  it.each([
    ['team/*', 'team/app', true],
    ['team/*', 'team/app/sub', false],
    ['team/**', 'team/app/sub', true],
    ['team/**', 'teams/app', false],
    ['*/app', 'team/app', true],
    ['a.b/*', 'axb/c', false],
    ['**/cache', 'team/app/cache', true],
    ['team', 'team/app', false],
  ])('pattern %s and repository %s: %s', (pattern, path, matches) => {
    expect(createModeOf([{ pattern, mode: 'deny' }])(name(path)) === 'deny').toBe(matches)
  })
})

describe('a pattern', () => {
  it.each(['Team/*', 'team app', '', 'a***', 'team/[a]'])(
    'that could match no name is refused: %j',
    (text) => {
      expect(parsePathPattern(text)).toBeUndefined()
    },
  )
})
