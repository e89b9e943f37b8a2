import { describe, expect, it } from 'vitest'
import { requiredAccess } from '../../src/auth/scope.ts'
import { unauthorized } from '../../src/auth/unauthorized.ts'
import { errorBody } from '../../src/oci/errors.ts'
import { parseRepositoryName } from '../../src/oci/reference.ts'

const SETTINGS = { realm: 'https://gitlab.example.com/jwt/auth', service: 'container_registry' }
const BASE = 'Bearer realm="https://gitlab.example.com/jwt/auth",service="container_registry"'

function mount(from: string) {
  const name = parseRepositoryName('a/b')
  if (!name) throw new Error('unreachable: a/b is a repository name')
  return requiredAccess('POST', { name, from })
}

describe('the 401', () => {
  it('names what a mount needs, in header and body, as GitLab words it', () => {
    const error = unauthorized(SETTINGS, mount('c/d'), 'insufficient_scope')

    expect(error.status).toBe(401)
    expect(error.headers).toEqual({
      'www-authenticate': `${BASE},scope="repository:a/b:pull,push repository:c/d:pull",error="insufficient_scope"`,
    })
    expect(errorBody(error.code, error.message, error.detail)).toBe(
      '{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":[' +
        '{"Type":"repository","Class":"","Name":"a/b","ProjectPath":"","Action":"pull"},' +
        '{"Type":"repository","Class":"","Name":"a/b","ProjectPath":"","Action":"push"},' +
        '{"Type":"repository","Class":"","Name":"c/d","ProjectPath":"","Action":"pull"}]}]}',
    )
  })

  it.each([
    ['missing', ''],
    ['invalid', ',error="invalid_token"'],
    ['insufficient_scope', ',error="insufficient_scope"'],
  ] as const)('of a token that is %s ends with "%s"', (reason, ending) => {
    const { headers } = unauthorized(SETTINGS, requiredAccess('GET', 'catalog'), reason)

    expect(headers['www-authenticate']).toBe(`${BASE},scope="registry:catalog:*"${ending}`)
  })

  it('of a ping names no scope, and its detail is null', () => {
    const error = unauthorized(SETTINGS, requiredAccess('GET', 'ping'), 'missing')

    expect(error.headers['www-authenticate']).toBe(BASE)
    expect(errorBody(error.code, error.message, error.detail)).toBe(
      '{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":null}]}',
    )
  })

  it('is a legal header whatever a client sent as from', () => {
    const { headers } = unauthorized(SETTINGS, mount('x"\r\nSet-Cookie: a=b\u0000é'), 'missing')

    expect(() => new Headers({ ...headers })).not.toThrow()
    expect(headers['www-authenticate']).not.toMatch(/[^\x20-\x7e]/)
  })
})
