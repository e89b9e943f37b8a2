import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatChallenge, parseChallenges } from '../../src/auth/challenge.ts'

/** Challenges as plain values. */
function parsed(header: string | string[] | undefined): unknown[] {
  return parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)])
}

const REALM = 'https://gitlab.example.com/jwt/auth'

describe('reading a WWW-Authenticate header', () => {
  it.each<[string, string | string[] | undefined, unknown[]]>([
    [
      'the challenge of a registry',
      `Bearer realm="${REALM}",service="container_registry",scope="repository:a/b:pull,push"`,
      [['bearer', { realm: REALM, service: 'container_registry', scope: 'repository:a/b:pull,push' }]],
    ],
    [
      'several challenges in one line',
      'Basic realm="a, b", Bearer realm="c",service=d',
      [
        ['basic', { realm: 'a, b' }],
        ['bearer', { realm: 'c', service: 'd' }],
      ],
    ],
    [
      'several lines',
      ['Negotiate', 'bEaReR REALM=x'],
      [
        ['negotiate', {}],
        ['bearer', { realm: 'x' }],
      ],
    ],
    [
      'a token instead of parameters',
      'Negotiate YWJj+/==, NTLM abc=, Basic realm="r"',
      [
        ['negotiate', {}],
        ['ntlm', {}],
        ['basic', { realm: 'r' }],
      ],
    ],
    [
      'escaped quotes and backslashes',
      'Basic realm="say \\"hi\\" \\\\ \\n"',
      [['basic', { realm: 'say "hi" \\ n' }]],
    ],
    [
      'spaces around equals signs and empty list elements',
      ' ,, Basic  realm = "r" , ,\tcharset\t=UTF-8 ,',
      [['basic', { realm: 'r', charset: 'UTF-8' }]],
    ],
    ['an empty quoted string', 'Bearer realm=""', [['bearer', { realm: '' }]]],
    [
      'parameter names like those of Object.prototype',
      'Bearer constructor=a,__proto__=b',
      [
        [
          'bearer',
          Object.fromEntries([
            ['constructor', 'a'],
            ['__proto__', 'b'],
          ]),
        ],
      ],
    ],
    ['no header at all', undefined, []],
    ['an empty header', '', []],
  ])('understands %s', (_what, header, expected) => {
    expect(parsed(header)).toEqual(expected)
  })

  it.each<[string, string, unknown[]]>([
    ['a quoted string without its end', 'Basic realm="r", Bearer realm="x', [['basic', { realm: 'r' }]]],
    ['a backslash at the very end', 'Bearer realm="x\\', []],
    ['a URL that is not quoted', 'Bearer realm=https://evil.example', []],
    ['text glued to a quoted string', 'Bearer realm="x"y,service=z', []],
    ['a parameter without its value', 'Bearer realm="x",service=', [['bearer', { realm: 'x' }]]],
    ['parameters without a scheme', 'realm="x"', []],
    ['parameters without commas', 'Bearer realm="x" service="y"', []],
    ['a body in place of a header', '<html>401</html>', []],
  ])('takes nothing from %s', (_what, header, expected) => {
    expect(parsed(header)).toEqual(expected)
  })

  it('believes neither of two realms in one challenge', () => {
    expect(parsed('Basic realm="a", Bearer realm="good",Realm="evil"')).toEqual([['basic', { realm: 'a' }]])
  })

  it('stays quick on hostile lines of any length', () => {
    const hostile = [
      'a,',
      'a ',
      ' ,',
      'a=',
      'a="',
      '\\"',
      '"',
      'a =',
      ', ',
      'a b ',
      'a="b",',
      '=',
      'x="\\',
      'a , ',
      'Basic a=b, ',
    ]
    const startedAt = performance.now()

    for (const piece of hostile) {
      for (const prefix of ['', 'Bearer ', 'Bearer realm="', 'Bearer realm=x,']) {
        parseChallenges(prefix + piece.repeat(Math.floor(16_000 / piece.length)))
        parseChallenges(prefix + piece.repeat(1_000_000 / piece.length))
      }
    }

    // Linear patterns need some milliseconds for all of them; a single quadratic one needs many seconds.
    expect(performance.now() - startedAt).toBeLessThan(2000)
  })

  it('answers to any text with well-formed challenges and never throws', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'Ba=",\\ \t/:é'), maxLength: 40 }), (text) => {
        for (const { scheme, parameters } of parseChallenges(text)) {
          expect(scheme).toMatch(/^[^\s,="]+$/)
          for (const name of parameters.keys()) expect(name).toMatch(/^[^\s,="A-Z]+$/)
        }
      }),
    )
  })

  it('reads back what it writes, whatever the printable text', () => {
    const printable = fc.string({ unit: 'grapheme-ascii' })
    fc.assert(
      fc.property(printable, printable, (realm, service) => {
        expect(parsed(formatChallenge({ realm, service }))).toEqual([['bearer', { realm, service }]])
      }),
    )
  })
})

describe('wording a challenge', () => {
  it("is GitLab's, with commas and no spaces", () => {
    const scope = 'repository:a/b:pull,push repository:c/d:pull'

    expect(
      formatChallenge({ realm: REALM, service: 'container_registry', scope, error: 'insufficient_scope' }),
    ).toBe(`Bearer realm="${REALM}",service="container_registry",scope="${scope}",error="insufficient_scope"`)
  })

  it('leaves out an empty scope and an absent error', () => {
    expect(formatChallenge({ realm: REALM, service: 's', scope: '' })).toBe(
      `Bearer realm="${REALM}",service="s"`,
    )
  })

  it('cannot be broken out of by what a client sent', () => {
    const scope = 'repository:a",error="x\r\nSet-Cookie: a=b\\é\u{1f600}:pull'

    expect(formatChallenge({ realm: 'r', service: 's', scope })).toBe(
      'Bearer realm="r",service="s",scope="repository:a\\",error=\\"x??Set-Cookie: a=b\\\\???:pull"',
    )
  })
})
