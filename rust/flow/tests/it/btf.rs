//! What the compiler says of the program's types: BTF, as the kernel's documentation has it
//! (Documentation/bpf/btf.rst).

use std::collections::BTreeMap;

use bytes::Buf;
use object::{Object, ObjectSection};

const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const VAR: u32 = 14;

/// The types of an object.
pub(crate) struct Btf {
    /// By their numbers, from 1 on; void is the first.
    types: Vec<Type>,
    names: Vec<u8>,
}

#[derive(Default)]
struct Type {
    name: String,
    kind: u32,
    /// Bytes of it, or the number of the type that it is made of.
    size_or_type: u32,
    /// What follows, in words.
    rest: Vec<u32>,
}

impl Btf {
    pub(crate) fn of(object: &[u8]) -> Self {
        let file = object::File::parse(object).unwrap();
        let section = file.section_by_name(".BTF").unwrap().data().unwrap();
        let mut header = section;
        assert_eq!(header.get_u16_ne(), 0xeb9f, "magic");
        header.advance(2); // version, flags
        let [start, types_at, types_len, names_at, names_len] =
            std::array::from_fn(|_| header.get_u32_ne() as usize);
        let mut btf = Self {
            types: vec![Type::default()],
            names: section[start + names_at..][..names_len].to_vec(),
        };
        let mut left = &section[start + types_at..][..types_len];
        while !left.is_empty() {
            let [name, info, size_or_type] = std::array::from_fn(|_| left.get_u32_ne());
            let (kind, count) = (info >> 24 & 0x1f, info & 0xffff);
            let words = match kind {
                1 | 14 | 17 => 1,             // integer, variable, tag of a declaration
                2 | 7..=12 | 16 | 18 => 0,    // one that is made of another; float
                3 => 3,                       // array
                4 | 5 | 15 | 19 => 3 * count, // struct, union, section, enum of 64 bits
                6 | 13 => 2 * count,          // enum, function's type
                kind => panic!("no kind {kind}"),
            };
            btf.types.push(Type {
                name: btf.name(name),
                kind,
                size_or_type,
                rest: (0..words).map(|_| left.get_u32_ne()).collect(),
            });
        }
        btf
    }

    /// A struct's size, and the name, offset and size of each of its fields, in bytes.
    pub(crate) fn layout(&self, name: &str) -> (usize, Vec<(String, usize, usize)>) {
        let found = self.only(STRUCT, name);
        let fields = self.fields(found).map(|(name, of, bits)| {
            assert_eq!(bits % 8, 0, "{name}");
            (name, bits as usize / 8, self.size(of))
        });
        (found.size_or_type as usize, fields.collect())
    }

    /// How many entries a table has.
    pub(crate) fn max_entries(&self, table: &str) -> u32 {
        let definition = &self.types[self.only(VAR, table).size_or_type as usize];
        let fields: BTreeMap<_, _> = self
            .fields(definition)
            .map(|(name, of, _)| (name, of))
            .collect();
        // A pointer to an array of as many.
        let pointer = &self.types[fields["max_entries"] as usize];
        let array = &self.types[pointer.size_or_type as usize];
        assert_eq!((pointer.kind, array.kind), (PTR, ARRAY));
        array.rest[2]
    }

    fn only(&self, kind: u32, name: &str) -> &Type {
        let mut found = self
            .types
            .iter()
            .filter(|of| of.kind == kind && of.name == name);
        match (found.next(), found.next()) {
            (Some(of), None) => of,
            (None, _) => panic!("no {name}"),
            (Some(_), Some(_)) => panic!("more than one {name}"),
        }
    }

    /// Of a struct: each field's name, its type's number, and the bits before it.
    fn fields<'a>(&'a self, of: &'a Type) -> impl Iterator<Item = (String, u32, u32)> + 'a {
        let fields = of.rest.as_chunks::<3>().0.iter();
        fields.map(|&[name, of, bits]| (self.name(name), of, bits))
    }

    fn size(&self, number: u32) -> usize {
        let of = &self.types[number as usize];
        match of.kind {
            1 | 4..=6 | 16 | 19 => of.size_or_type as usize,
            ARRAY => of.rest[2] as usize * self.size(of.rest[0]),
            8..=11 | 18 => self.size(of.size_or_type), // a typedef, say
            kind => panic!("no size is known of kind {kind}"),
        }
    }

    fn name(&self, at: u32) -> String {
        let name = self.names[at as usize..].split(|byte| *byte == 0).next();
        String::from_utf8(name.unwrap().to_vec()).unwrap()
    }
}
