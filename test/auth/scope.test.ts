import { describe, expect, it } from 'vitest'
import { type AccessTarget, formatScopes, parseScopes, requiredAccess } from '../../src/auth/scope.ts'
import { parseRepositoryName } from '../../src/oci/reference.ts'

function repository(name: string, from?: string): AccessTarget {
  const parsed = parseRepositoryName(name)
  if (!parsed) throw new Error(`${name} is no repository name`)
  return { name: parsed, from }
}

const scope = (name: string, ...actions: string[]) => ({ type: 'repository', name, actions })

describe('reading scopes', () => {
  it.each([
    ['repository:a/b:pull', [scope('a/b', 'pull')]],
    ['repository:a/b:pull,push repository:c:*', [scope('a/b', 'pull', 'push'), scope('c', '*')]],
    ['repository:registry.example.com:5000/a:pull', [scope('registry.example.com:5000/a', 'pull')]],
    ['repository:group/*:pull', [scope('group/*', 'pull')]],
    ['registry:catalog:*', [{ type: 'registry', name: 'catalog', actions: ['*'] }]],
    ['repository(plugin):a:pull', [{ type: 'repository(plugin)', name: 'a', actions: ['pull'] }]],
    ['repository:__proto__:pull', [scope('__proto__', 'pull')]],
    ['  repository:a:pull  ', [scope('a', 'pull')]],
    ['', []],
  ])('understands "%s"', (text, expected) => {
    expect(parseScopes(text)).toEqual(expected)
  })

  it.each([
    'repository',
    'repository:a',
    'repository:a:',
    'repository::pull',
    ':a:pull',
    'repository:a:pull,',
    'repository:a:PULL',
    'repository:host:5000/a',
    'Repository:a:pull',
    'repository:a"b:pull',
    'repository:a:pull\nrepository:b:push',
    'repository:a:pull repository',
  ])('does not take %j for a list of scopes', (text) => {
    expect(parseScopes(text)).toBeUndefined()
  })
})

describe('writing scopes', () => {
  it('reads back as it was', () => {
    const text = 'repository:a/b:pull,push registry:catalog:* repository:h:5000/c:pull'

    expect(formatScopes(parseScopes(text) ?? [])).toBe(text)
  })

  it('names each resource once, as the registry does for a mount from the repository itself', () => {
    expect(formatScopes([scope('a', 'pull', 'push'), scope('b', 'pull'), scope('a', 'pull', 'delete')])).toBe(
      'repository:a:pull,push,delete repository:b:pull',
    )
  })
})

describe('what a request needs', () => {
  it.each([
    ['GET', ['pull']],
    ['HEAD', ['pull']],
    ['POST', ['pull', 'push']],
    ['PUT', ['pull', 'push']],
    ['PATCH', ['pull', 'push']],
    ['DELETE', ['delete']],
  ])('of %s on a repository is %j', (method, actions) => {
    expect(requiredAccess(method, repository('a/b'))).toEqual([scope('a/b', ...actions)])
  })

  it.each(['get', 'OPTIONS', 'TRACE', '', 'constructor'])(
    'of the unknown method "%s" is no less than of a write',
    (method) => {
      expect(requiredAccess(method, repository('a'))).toEqual([scope('a', 'pull', 'push')])
    },
  )

  it('of a mount is pull on its source too', () => {
    expect(requiredAccess('POST', repository('a', 'b/c'))).toEqual([
      scope('a', 'pull', 'push'),
      scope('b/c', 'pull'),
    ])
  })

  it('of a mount from a name outside the grammar is what no token grants', () => {
    expect(requiredAccess('POST', repository('a', '../b'))).toContainEqual(scope('../b', 'pull'))
  })

  it('of an empty from is nothing more', () => {
    expect(requiredAccess('POST', repository('a', ''))).toEqual([scope('a', 'pull', 'push')])
  })

  it('of the catalog is everything on it, and of the base nothing but a valid token', () => {
    expect(requiredAccess('GET', 'catalog')).toEqual([{ type: 'registry', name: 'catalog', actions: ['*'] }])
    expect(requiredAccess('GET', 'ping')).toEqual([])
  })
})
